import { useMemo, useState } from "react";
import { Provider, useMutation } from "urql";

import { createApi } from "./api";
import { Failure } from "./Failure";
import { graphql } from "./generated";
import type { RetrainMutation } from "./generated/graphql";
import { RunProgress } from "./RunProgress";
import { unreachable } from "./unreachable";

const retrainMutation = graphql(`
  mutation Retrain($input: RetrainInput!) {
    retrain(input: $input) {
      __typename
      ... on RetrainAccepted {
        replayed
        run {
          id
        }
      }
      ... on TrainingInProgress {
        run {
          id
          requestedBy
        }
      }
      ... on IdempotencyKeyReused {
        message
      }
    }
  }
`);

interface Props {
  /** Called when somebody asks for lists of the model that went live. */
  onNewModel: () => void;
}

/** Lets an admin retrain. The token is held here, and is gone with the page. */
export function AdminPanel({ onNewModel }: Props) {
  const [token, setToken] = useState("");
  const api = useMemo(() => createApi(token), [token]);
  return (
    <section aria-labelledby="admin">
      <h2 id="admin">Admin</h2>
      <Provider value={api}>
        <Retraining token={token} onToken={setToken} onNewModel={onNewModel} />
      </Provider>
    </section>
  );
}

interface RetrainingProps extends Props {
  token: string;
  onToken: (token: string) => void;
}

function Retraining({ token, onToken, onNewModel }: RetrainingProps) {
  const [{ data, error, fetching }, retrain] = useMutation(retrainMutation);
  const [idempotencyKey, setIdempotencyKey] = useState(randomKey);

  async function submit() {
    const answer = await retrain({ input: { idempotencyKey, note: "asked for on the page" } });
    // Where no answer came, asking again under the same key cannot begin a second run
    if (answer.error?.networkError === undefined) setIdempotencyKey(randomKey());
  }

  return (
    <>
      <form
        className="admin"
        autoComplete="off"
        onSubmit={(event) => {
          event.preventDefault();
          void submit();
        }}
      >
        <label htmlFor="token">Admin token</label>
        <input
          id="token"
          type="password"
          required
          autoComplete="off"
          value={token}
          onChange={(event) => onToken(event.target.value)}
        />
        <button type="submit" disabled={fetching}>
          Retrain
        </button>
      </form>
      {error && <Failure error={error} />}
      {data?.retrain && <Outcome result={data.retrain} onNewModel={onNewModel} />}
    </>
  );
}

interface OutcomeProps extends Props {
  result: NonNullable<RetrainMutation["retrain"]>;
}

function Outcome({ result, onNewModel }: OutcomeProps) {
  switch (result.__typename) {
    case "RetrainAccepted":
      return (
        <>
          {result.replayed && <p>This request had begun the run already.</p>}
          <RunProgress runId={result.run.id} onNewModel={onNewModel} />
        </>
      );
    case "TrainingInProgress":
      return (
        <>
          <p>Another run is under way, asked for by {result.run.requestedBy}:</p>
          <RunProgress runId={result.run.id} onNewModel={onNewModel} />
        </>
      );
    case "IdempotencyKeyReused":
      return <p role="alert">{result.message}</p>;
    default:
      return unreachable(result);
  }
}

function randomKey(): string {
  return crypto.getRandomValues(new Uint32Array(4)).join("-");
}
