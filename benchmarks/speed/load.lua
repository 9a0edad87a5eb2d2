-- What wrk sends and says; `plan` stands above it.
local prepared, turn = {}, 0

function init()
  for number, path in ipairs(plan.paths) do
    prepared[number] = wrk.format(plan.method, path, plan.headers, plan.body)
  end
end

function request()
  turn = turn % #prepared + 1
  return prepared[turn]
end

if plan.rate then
  local ffi = require("ffi")
  ffi.cdef("typedef struct { long seconds; long microseconds; } timeval; int gettimeofday(timeval *, void *);")
  local timeval = ffi.new("timeval")
  local due = nil

  -- Milliseconds until a connection sends its next request: the requests of all of them are a Poisson process.
  function delay()
    ffi.C.gettimeofday(timeval, nil)
    local now = 1000 * tonumber(timeval.seconds) + tonumber(timeval.microseconds) / 1000
    due = (due or now) - 1000 / plan.rate * math.log(1 - math.random())
    return math.max(0, due - now)
  end
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"answers": %d, "microseconds": %d, "median": %d, "p99": %d, "failed": %d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.status + errors.timeout
  ))
end
