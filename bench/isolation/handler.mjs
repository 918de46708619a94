// Answers what it is asked to echo, or ends its process as native code does.
export function handle({ echo, abort }) {
  if (abort !== undefined) process.abort();
  return echo;
}
