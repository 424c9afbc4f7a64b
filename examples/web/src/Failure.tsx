import type { CombinedError } from "urql";

/** Says what went wrong, in the service's own words where it has answered. */
export function Failure({ error }: { error: CombinedError }) {
  if (error.networkError !== undefined) {
    return (
      <p role="alert" className="failure">
        The service cannot be reached: {error.networkError.message}
      </p>
    );
  }
  return (
    <div role="alert" className="failure">
      {error.graphQLErrors.map(({ message, extensions }) => (
        <p key={message}>
          {message} <code>{String(extensions["code"])}</code>
        </p>
      ))}
    </div>
  );
}
