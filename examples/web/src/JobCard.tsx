import type { ReactNode } from "react";

import { graphql } from "./generated";
import type { JobCardFragment } from "./generated/graphql";

graphql(`
  fragment JobCard on Job {
    id
    title
    employer {
      name
    }
    location
  }
`);

interface Props {
  job: JobCardFragment;
  rank: number;
  score: number;
  isChosen?: boolean;
  onChoose: (jobId: string) => void;
  children?: ReactNode;
}

/** A job of a ranked list; its title is a button. */
export function JobCard({ job, rank, score, isChosen = false, onChoose, children }: Props) {
  const place = [job.employer?.name, job.location].filter(Boolean).join(" · ");
  return (
    <li className={isChosen ? "card chosen" : "card"}>
      <span className="rank" aria-hidden="true">
        {rank}
      </span>
      <div>
        <button
          type="button"
          className="title"
          aria-pressed={isChosen}
          onClick={() => onChoose(job.id)}
        >
          {job.title ?? `Job ${job.id}`}
        </button>
        <p className="place">{place}</p>
      </div>
      <p className="standing">
        {children}
        <span className="score">
          <span className="visually-hidden">Score </span>
          {score.toFixed(3)}
        </span>
      </p>
    </li>
  );
}
