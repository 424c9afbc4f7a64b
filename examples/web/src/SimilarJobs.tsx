import { useQuery } from "urql";

import { Failure } from "./Failure";
import { graphql } from "./generated";
import { JobCard } from "./JobCard";

const similarJobsQuery = graphql(`
  query SimilarJobs($jobId: ID!) {
    similarJobs(jobId: $jobId, first: 5) {
      job {
        id
        title
      }
      items {
        rank
        score
        job {
          ...JobCard
        }
      }
    }
  }
`);

interface Props {
  jobId: string | null;
  onChooseJob: (jobId: string) => void;
}

/** Jobs that the same people are drawn to as to the chosen one. */
export function SimilarJobs({ jobId, onChooseJob }: Props) {
  const [{ data, error, fetching }] = useQuery({
    query: similarJobsQuery,
    variables: { jobId: jobId ?? "" },
    pause: jobId === null,
  });
  const list = jobId === null ? undefined : data?.similarJobs;
  return (
    <section aria-labelledby="similar" aria-busy={fetching}>
      <h2 id="similar">Similar jobs</h2>
      {jobId === null && <p className="note">Choose a job to see others like it.</p>}
      {error && <Failure error={error} />}
      {list === null && !error && <p>The model does not know this job.</p>}
      {list && (
        <>
          <p role="status">Like “{list.job.title ?? `Job ${list.job.id}`}”:</p>
          <ol className="cards">
            {list.items.map(({ job, rank, score }) => (
              <JobCard key={job.id} job={job} rank={rank} score={score} onChoose={onChooseJob} />
            ))}
          </ol>
        </>
      )}
    </section>
  );
}
