// A handler that ends its process when it is asked to, as native code may.
export function handle(request) {
  if (request.kill === true) process.kill(process.pid, 'SIGKILL');
  return request;
}
