import { useSubscription } from "urql";

import { Failure } from "./Failure";
import { graphql } from "./generated";
import type { FollowRunSubscription, TrainingPhase } from "./generated/graphql";
import { unreachable } from "./unreachable";

const followRunSubscription = graphql(`
  subscription FollowRun($id: ID!) {
    trainingRun(id: $id) {
      id
      status
      phase
      step
      totalSteps
      promoted
      refusals
      failure
      model {
        version
      }
    }
  }
`);

const PHASES: Record<TrainingPhase, string> = {
  WAITING: "Waiting",
  READING: "Reading the activities",
  EVALUATING: "Measuring on the hold-out",
  FITTING: "Learning from everything",
  EMPLOYERS: "Learning types of employers",
  WRITING: "Storing the model",
  PROMOTING: "Deciding whether it goes live",
  ENDED: "Ended",
};

type Run = FollowRunSubscription["trainingRun"];

interface Props {
  runId: string;
  onNewModel: () => void;
}

/** Follows a training run to its end. */
export function RunProgress({ runId, onNewModel }: Props) {
  const [{ data, error }] = useSubscription({
    query: followRunSubscription,
    variables: { id: runId },
  });
  const run = data?.trainingRun;
  return (
    <div className="run">
      {error && <Failure error={error} />}
      {run && run.phase !== "ENDED" && <Bar run={run} />}
      {/* Steps would be too much to be read aloud: phases and the outcome are */}
      <p role="status" aria-live="polite">
        {run ? standing(run) : !error && "Connecting"}
      </p>
      {run?.refusals.map((refusal) => <p key={refusal}>{refusal}</p>)}
      {run?.promoted && (
        <button type="button" onClick={onNewModel}>
          Show its recommendations
        </button>
      )}
    </div>
  );
}

function Bar({ run }: { run: Run }) {
  // Without a value it shows that something goes on
  const value = run.totalSteps > 0 ? { max: run.totalSteps, value: run.step } : {};
  return <progress aria-label="Progress of this phase" {...value} />;
}

function standing(run: Run): string {
  switch (run.status) {
    case "QUEUED":
    case "RUNNING":
      return PHASES[run.phase];
    case "SUCCEEDED":
      return `Model ${run.model?.version ?? ""} ${run.promoted ? "is live" : "was not promoted"}`;
    case "FAILED":
      return `The run failed: ${run.failure ?? "it did not say why"}`;
    case "CANCELLED":
      return "The run was cancelled";
    default:
      return unreachable(run.status);
  }
}
