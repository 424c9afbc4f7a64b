import { createClient as createSocket } from "graphql-ws";
import { Client, cacheExchange, fetchExchange, subscriptionExchange } from "urql";

/**
 * Returns a client of the service, with a cache of its own.
 *
 * @param token an admin's; it lives as long as the client does, and is stored nowhere.
 */
export function createApi(token?: string): Client {
  const credentials: Record<string, string> = token ? { Authorization: `Bearer ${token}` } : {};
  const url = new URL("/graphql", window.location.href);
  // It connects with the first subscription, and leaves with the last
  const socket = createSocket({
    url: url.href.replace(/^http/, "ws"),
    connectionParams: credentials,
    // Also where the service restarts: whoever comes back to a run sees where it stands
    shouldRetry: () => true,
  });
  return new Client({
    url: url.href,
    preferGetMethod: false,
    fetchOptions: { headers: credentials },
    exchanges: [
      cacheExchange,
      fetchExchange,
      subscriptionExchange({
        forwardSubscription: ({ query = "", variables }) => ({
          subscribe: (sink) => ({
            unsubscribe: socket.subscribe(
              { query, variables },
              { ...sink, error: (reason) => sink.error(inWords(reason)) },
            ),
          }),
        }),
      }),
    ],
  });
}

/** A connection that fails says so by an event, which has nothing to show. */
function inWords(reason: unknown): unknown {
  if (reason instanceof CloseEvent) {
    return new Error(`it closed the connection: ${reason.code} ${reason.reason}`);
  }
  return reason instanceof Event ? new Error("the connection failed") : reason;
}
