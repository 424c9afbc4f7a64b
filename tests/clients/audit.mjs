// Holds a server against the audits of GraphQL over HTTP: each result is printed as a line of JSON.
//
//   node audit.mjs URL

import { auditServer } from "graphql-http";

const [url] = process.argv.slice(2);

for (const { id, name, status, reason } of await auditServer({ url })) {
  process.stdout.write(`${JSON.stringify({ id, name, status, reason })}\n`);
}
