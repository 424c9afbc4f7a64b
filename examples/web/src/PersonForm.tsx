import { useState } from "react";
import { useQuery } from "urql";

import { graphql } from "./generated";

const suggestionsQuery = graphql(`
  query Suggestions($userIds: [ID!]!) {
    batchRecommendations(userIds: $userIds, first: 1) {
      userId
      items {
        source
      }
    }
  }
`);

/** The demo dataset has the first ones; nobody has the last. */
const SUGGESTED = ["1", "2", "3", "5", "8", "999999"];

interface Props {
  chosen: string;
  onChoose: (userId: string) => void;
}

/** Lets somebody say for whom to recommend. */
export function PersonForm({ chosen, onChoose }: Props) {
  const [typed, setTyped] = useState(chosen);
  const [{ data }] = useQuery({ query: suggestionsQuery, variables: { userIds: SUGGESTED } });
  const suggestions = data?.batchRecommendations ?? [];

  function choose(userId: string) {
    setTyped(userId);
    onChoose(userId);
  }

  return (
    <form
      className="person"
      onSubmit={(event) => {
        event.preventDefault();
        choose(typed.trim());
      }}
    >
      <label htmlFor="person">Person</label>
      <input
        id="person"
        required
        inputMode="numeric"
        autoComplete="off"
        value={typed}
        onChange={(event) => setTyped(event.target.value)}
      />
      <button type="submit">Recommend</button>
      <ul className="suggestions" aria-label="Suggested people">
        {suggestions.map(({ userId, items }) => {
          if (userId === null) return null;
          const isKnown = items[0]?.source === "PERSONALISED";
          return (
            <li key={userId}>
              <button
                type="button"
                className="chip"
                aria-pressed={userId === chosen}
                onClick={() => choose(userId)}
              >
                {userId}
                {isKnown ? "" : " (newcomer)"}
              </button>
            </li>
          );
        })}
      </ul>
    </form>
  );
}
