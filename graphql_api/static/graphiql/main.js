"use strict";

// A tab is called after its operation: GraphiQL takes no other title.
const tabs = [
  {
    query: `# The best jobs for one person, best first.
# \`source\` says where a job comes from:
# POPULAR is for people the model does not
# know. To narrow the list, add a variable:
#  "where": {"location": "..."}
query Recommendations(
  $userId: ID!
  $first: Int!
  $where: JobFilter
) {
  recommendations(
    userId: $userId
    first: $first
    where: $where
  ) {
    userId
    shortfall
    items {
      rank
      score
      source
      job {
        id
        title
        employer {
          name
        }
        location
      }
    }
    model {
      version
    }
  }
}
`,
    variables: { userId: "1", first: 10 },
  },
  {
    query: `# Many people at once: one list per id, in
# the order asked, unknown people included.
# \`exclude\` says what keeps a job out: that
# the person applied, or went to the
# employer's page.
query Batch(
  $userIds: [ID!]!
  $first: Int!
  $exclude: [ActivityKind!]!
) {
  batchRecommendations(
    userIds: $userIds
    first: $first
    exclude: $exclude
  ) {
    userId
    shortfall
    items {
      rank
      score
      source
      job {
        id
        title
      }
    }
  }
}
`,
    variables: { userIds: ["1", "2", "3"], first: 3, exclude: ["APPLY", "REDIRECT"] },
  },
  {
    query: `# Jobs that the same people are drawn to,
# closest first, without the job itself.
query SimilarJobs($jobId: ID!, $first: Int!) {
  similarJobs(jobId: $jobId, first: $first) {
    job {
      id
      title
      employer {
        name
      }
    }
    items {
      rank
      score
      job {
        id
        title
        employer {
          name
        }
      }
    }
  }
}
`,
    variables: { jobId: "1", first: 10 },
  },
  {
    query: `# One job, and the catalogue, newest first.
# For its next page, put \`endCursor\` into
# the variable "after".
query JobAndCatalogue(
  $id: ID!
  $first: Int!
  $after: String
) {
  job(id: $id) {
    id
    title
    employer {
      name
      jobCount
    }
    similar(first: 3) {
      items {
        job {
          title
        }
      }
    }
    location
    description
    postedAt
    closesAt
    isOpen
  }
  jobs(first: $first, after: $after) {
    edges {
      cursor
      node {
        id
        title
        employer {
          name
        }
        postedAt
        isOpen
      }
    }
    pageInfo {
      hasNextPage
      endCursor
    }
  }
}
`,
    variables: { id: "1", first: 5, after: null },
  },
  {
    query: `# The model that answers now: how much it
# learned from, and how well it did when
# tested. Then the latest training runs.
query ModelAndRuns($first: Int!) {
  model {
    version
    trainedAt
    users
    jobs
    activities
    metrics {
      name
      value
    }
  }
  trainingRuns(first: $first) {
    id
    status
    phase
    step
    totalSteps
    requestedAt
    startedAt
    finishedAt
    promoted
    refusals
    failure
    model {
      version
    }
  }
}
`,
    variables: { first: 5 },
  },
  {
    query: `# Why these jobs? What the person did that
# speaks for each, and where a certain job
# stands for them, or why it does not.
# Below: jobs for a visitor by what they did
# in this session; nothing of it is kept.
query Why($userId: ID!, $jobId: ID!, $did: [ActivityInput!]!) {
  recommendations(userId: $userId, first: 3) {
    items {
      source
      score
      trend
      job {
        title
      }
      reasons {
        share
        kinds
        job {
          title
        }
      }
    }
  }
  whyNot(userId: $userId, jobId: $jobId) {
    verdict
    rank
  }
  sessionRecommendations(activities: $did, first: 3) {
    items {
      source
      job {
        title
      }
    }
  }
}
`,
    variables: { userId: "1", jobId: "3", did: [{ jobId: "3", kind: "REDIRECT" }] },
  },
  {
    query: `# For administrators: write the token that
# serve printed into the Headers tab below:
#  {"Authorization": "Bearer <the token>"}
# Reloading the page forgets it.
#
# Retrain starts a training run. FollowRun
# shows its progress; put the run's id into
# the variable "runId" for that.
# With an "idempotencyKey" in the input,
# asking again returns the same run.
mutation Retrain($input: RetrainInput!) {
  retrain(input: $input) {
    __typename
    ... on RetrainAccepted {
      replayed
      run {
        id
        status
      }
    }
    ... on TrainingInProgress {
      run {
        id
        status
        phase
      }
    }
    ... on IdempotencyKeyReused {
      message
    }
  }
}

subscription FollowRun($runId: ID!) {
  trainingRun(id: $runId) {
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
`,
    variables: {
      input: { note: "asked for in GraphiQL", force: false },
      runId: "the id that Retrain answers",
    },
    headers: { Authorization: "Bearer <the admin token that serve printed>" },
  },
  {
    query: `# For administrators, as the tab before:
# changes of the catalogue, which the
# next answer heeds. One item that is
# refused loses no other. A job is put
# in whole: what is left out is unknown
# from then on.
mutation UpsertJobs($jobs: [JobInput!]!) {
  upsertJobs(input: { jobs: $jobs }) {
    ...Outcomes
  }
}

mutation CloseJobs($ids: [ID!]!) {
  closeJobs(input: { ids: $ids }) {
    ...Outcomes
  }
}

mutation RemoveJobs($ids: [ID!]!) {
  removeJobs(input: { ids: $ids }) {
    ...Outcomes
  }
}

# Forgets a person: profile, answers and,
# with the next training, activities.
mutation EraseUser($userId: ID!) {
  eraseUser(input: { id: $userId }) {
    __typename
    ... on UserErased {
      change
      at
    }
    ... on CatalogueReadOnly {
      message
    }
  }
}

fragment Outcomes on ChangeCatalogueResult {
  __typename
  ... on CatalogueChanged {
    refused
    outcomes {
      id
      change
      refusal
    }
  }
  ... on CatalogueReadOnly {
    message
  }
}
`,
    variables: {
      jobs: [
        {
          id: "900001",
          title: "Night nurse",
          employer: "Ward Seven",
          location: "Leeds",
          postedAt: "2026-01-05T09:00:00Z",
          closed: false, // it has a default, but the editor asks for it
        },
      ],
      ids: ["900001"],
      userId: "900001",
    },
    headers: { Authorization: "Bearer <the admin token that serve printed>" },
  },
].map(({ query, variables, headers }) => ({
  query,
  variables: JSON.stringify(variables, null, 2),
  headers: headers ? JSON.stringify(headers, null, 2) : null,
}));

// GraphiQL's dialogs and menus lock scrolling with an inline <style>, which the page's
// Content-Security-Policy forbids. This page never scrolls (style.css), so the lock is left out.
const { appendChild } = document.head;
document.head.appendChild = (node) =>
  node instanceof HTMLStyleElement ? node : appendChild.call(document.head, node);

const HISTORY = ["graphiql:queries", "graphiql:favorites"];
const VISIBLE_PLUGIN = "graphiql:visiblePlugin"; // GraphiQL reads it, and leaves writing it to us
// A namespace of its own: another project's GraphiQL may have been on this host and port before.
const storage = GraphiQL.createLocalStorage({ namespace: "jobrec" });

// `shouldPersistHeaders: false` does not cover the history, which would keep the admin token.
const { setItem } = storage;
const dropHeaders = (name, value) => (name === "headers" ? undefined : value);
storage.setItem = (key, value) =>
  setItem(key, HISTORY.includes(key) ? JSON.stringify(JSON.parse(value), dropHeaders) : value);

if (storage.getItem("graphiql:tabState") === null) {
  // `defaultTabs` alone leaves the first tab without its variables, and adds an empty tab at the
  // next load. Written here, and not given as props, a visitor's own choices win from then on.
  storage.setItem("graphiql:query", tabs[0].query);
  storage.setItem("graphiql:variables", tabs[0].variables);
  storage.setItem(VISIBLE_PLUGIN, "GraphiQL Explorer");
  storage.setItem("graphiql:docExplorerFlex", "0.25"); // a fifth of the width
}

const socket = new URL("/graphql", window.location.href);
socket.protocol = socket.protocol === "https:" ? "wss:" : "ws:";

ReactDOM.createRoot(document.getElementById("graphiql")).render(
  React.createElement(
    GraphiQL,
    {
      // Sends the Headers tab with a request, and as connection parameters with a subscription.
      fetcher: GraphiQL.createFetcher({
        url: "/graphql",
        subscriptionUrl: socket.href,
        headers: { accept: "application/graphql-response+json, application/json" },
        enableIncrementalDelivery: false,
      }),
      defaultEditorToolsVisibility: "variables",
      defaultTabs: tabs,
      onTogglePluginVisibility: (plugin) => storage.setItem(VISIBLE_PLUGIN, plugin?.title ?? ""),
      plugins: [GraphiQLPluginExplorer.explorerPlugin()],
      shouldPersistHeaders: false,
      storage,
    },
    React.createElement(GraphiQL.Logo, null, "jobrec"),
  ),
);
