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
            unsubscribe: socket.subscribe({ query, variables }, sink),
          }),
        }),
      }),
    ],
  });
}
