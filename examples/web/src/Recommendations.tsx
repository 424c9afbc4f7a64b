import { useQuery } from "urql";

import { Failure } from "./Failure";
import { graphql } from "./generated";
import type { RecommendationSource, ShortfallReason } from "./generated/graphql";
import { JobCard } from "./JobCard";

const recommendationsQuery = graphql(`
  query Recommendations($userId: ID!) {
    recommendations(userId: $userId, first: 10) {
      shortfall
      model {
        version
      }
      items {
        rank
        score
        source
        job {
          ...JobCard
        }
      }
    }
  }
`);

const SOURCES: Record<RecommendationSource, string> = {
  PERSONALISED: "For you",
  FOLD_IN: "From your latest steps",
  SIMILAR: "Similar",
  POPULAR: "Popular",
  NEW: "New",
};

const SHORTFALLS: Record<ShortfallReason, string> = {
  CATALOGUE: "There are no more open jobs.",
  FILTER: "No more jobs fit.",
  EXCLUDED: "This person has applied to all others.",
};

interface Props {
  userId: string;
  chosenJob: string | null;
  onChooseJob: (jobId: string) => void;
}

/** The best jobs for one person. */
export function Recommendations({ userId, chosenJob, onChooseJob }: Props) {
  const [{ data, error, fetching }] = useQuery({
    query: recommendationsQuery,
    variables: { userId },
  });
  const list = data?.recommendations;
  return (
    <section aria-labelledby="recommendations" aria-busy={fetching}>
      <h2 id="recommendations">Recommended to person {userId}</h2>
      {error && <Failure error={error} />}
      {list && (
        <>
          <ol className="cards">
            {list.items.map(({ job, rank, score, source }) => (
              <JobCard
                key={job.id}
                job={job}
                rank={rank}
                score={score}
                isChosen={job.id === chosenJob}
                onChoose={onChooseJob}
              >
                <span className={`source ${source.toLowerCase()}`}>{SOURCES[source]}</span>
              </JobCard>
            ))}
          </ol>
          {list.shortfall && <p>{SHORTFALLS[list.shortfall]}</p>}
          <p className="note">
            From model <code>{list.model.version}</code>. Scores compare within this list only.
          </p>
        </>
      )}
    </section>
  );
}
