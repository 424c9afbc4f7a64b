-- Sends prepared bodies by POST, one after the other and then again from the first; counts answers
-- that hold "errors", which GraphQL sends with status 200; tells what it found as a line of JSON.
-- Arguments: FILE, a body a line, and headers as NAME=VALUE.

local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

function init(args)
  local headers = { ["Content-Type"] = "application/json" }
  for place = 2, #args do
    local name, value = string.match(args[place], "^([^=]+)=(.*)$")
    headers[name] = value
  end
  prepared, sent, wrong = {}, 0, 0
  for body in io.lines(args[1]) do
    prepared[#prepared + 1] = wrk.format("POST", nil, headers, body)
  end
end

function request()
  sent = sent + 1
  return prepared[(sent - 1) % #prepared + 1]
end

function response(status, headers, body)
  if string.find(body, '"errors"', 1, true) then
    wrong = wrong + 1
  end
end

function done(summary, latency, requests)
  local sent, wrong = 0, 0
  for _, thread in ipairs(threads) do
    sent = sent + thread:get("sent")
    wrong = wrong + thread:get("wrong")
  end
  local errors = summary.errors
  local lost = errors.connect + errors.read + errors.write + errors.timeout
  io.write(string.format(
    '{"requests": %d, "sent": %d, "seconds": %.6f, "p50": %.6f, "p99": %.6f, "slowest": %.6f, ' ..
    '"refused": %d, "lost": %d, "wrong": %d}\n',
    summary.requests, sent, summary.duration / 1e6, latency:percentile(50) / 1e6,
    latency:percentile(99) / 1e6, latency.max / 1e6, errors.status, lost, wrong))
end
