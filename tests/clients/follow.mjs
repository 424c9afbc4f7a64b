// Follows a training run over a web socket to its end: each payload is printed as a line of JSON.
//
//   node follow.mjs URL RUN_ID [CONNECTION_PARAMS] [STOP_AFTER]
//
// URL is that of the endpoint, ws://...; CONNECTION_PARAMS is JSON; with STOP_AFTER the client
// leaves after so many payloads, as one does whose network went away. Exit codes: 0 the server
// completed the subscription, 1 it ended in another way, 3 left after STOP_AFTER payloads.

import { createClient } from "graphql-ws";
import { WebSocket } from "ws";

const [url, id, connectionParams = "{}", stopAfter = "0"] = process.argv.slice(2);

const query = `subscription ($id: ID!) {
  trainingRun(id: $id) {
    id status phase step totalSteps promoted failure
    model { version }
    dataReport { linesRead }
  }
}`;

const client = createClient({
  url,
  webSocketImpl: WebSocket,
  connectionParams: JSON.parse(connectionParams),
  retryAttempts: 0,
});

let seen = 0;
client.subscribe(
  { query, variables: { id } },
  {
    next(payload) {
      process.stdout.write(`${JSON.stringify(payload)}\n`);
      seen += 1;
      if (seen === Number(stopAfter)) {
        client.terminate();
        process.exitCode = 3;
      }
    },
    error(reason) {
      // GraphQL's errors come as a list, a closed connection as an event
      const told = Array.isArray(reason)
        ? { errors: reason }
        : { closed: reason.code ?? null, reason: reason.reason ?? String(reason) };
      process.stderr.write(`${JSON.stringify(told)}\n`);
      process.exitCode ||= 1;
    },
    complete() {
      process.exitCode ||= 0;
    },
  },
);
