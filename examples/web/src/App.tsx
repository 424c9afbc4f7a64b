import { useState } from "react";
import { Provider } from "urql";

import { AdminPanel } from "./AdminPanel";
import { createApi } from "./api";
import { PersonForm } from "./PersonForm";
import { Recommendations } from "./Recommendations";
import { SimilarJobs } from "./SimilarJobs";

export function App() {
  const [api, setApi] = useState(() => createApi());
  const [userId, setUserId] = useState("1");
  const [jobId, setJobId] = useState<string | null>(null);

  function choosePerson(id: string) {
    setUserId(id);
    setJobId(null);
  }

  // A new client starts with an empty cache
  const forgetAnswers = () => setApi(createApi());

  return (
    <Provider value={api}>
      <header>
        <h1>Jobs for you</h1>
        <PersonForm chosen={userId} onChoose={choosePerson} />
      </header>
      <main>
        <Recommendations userId={userId} chosenJob={jobId} onChooseJob={setJobId} />
        <div className="aside">
          <SimilarJobs jobId={jobId} onChooseJob={setJobId} />
          <AdminPanel onNewModel={forgetAnswers} />
        </div>
      </main>
    </Provider>
  );
}
