import { defineConfig, loadEnv } from "vite";

// What the built page needs, and nothing else. `connect-src 'self'` covers the web socket too.
const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "connect-src 'self'",
  "img-src 'self' data:",
  "font-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join("; ");

export default defineConfig(({ mode }) => {
  const { JOBREC_URL: target = "http://127.0.0.1:8000" } = loadEnv(mode, ".", "JOBREC_");
  // One origin for the page and the service: no CORS, and web sockets pass the origin check
  const proxy = { "/graphql": { target, ws: true } };
  return {
    server: { proxy },
    preview: { proxy, headers: { "Content-Security-Policy": POLICY } },
  };
});
