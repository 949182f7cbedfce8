-- Makes wrk send a POST when asked to ("-- POST <bytes>"), and print its figures as one JSON line.

function init(args)
   if args[1] == "POST" then
      wrk.method = "POST"
      wrk.body = string.rep("0123456789abcdef", tonumber(args[2]) / 16)
      wrk.headers["Content-Type"] = "application/octet-stream"
   end
end

function done(summary, latency, requests)
   local errors = summary.errors
   io.write(string.format(
      '\nBENCH {"requests":%d,"microseconds":%d,"bytes":%d,"p50_us":%d,"p99_us":%d,' ..
      '"errors":{"connect":%d,"read":%d,"write":%d,"timeout":%d,"status":%d}}\n',
      summary.requests, summary.duration, summary.bytes,
      latency:percentile(50), latency:percentile(99),
      errors.connect, errors.read, errors.write, errors.timeout, errors.status))
end
