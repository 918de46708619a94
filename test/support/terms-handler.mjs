// A handler that tells what it knows of a request, with methods beside `handle`.
export async function handle(request, context) {
  if (request?.next !== undefined) return context.engine.run(request.next, {}, request.options);
  return termsOf(context);
}

export function twice(value, context) {
  return { answer: 2 * value, method: context.method };
}

export async function* count(upTo) {
  for (let item = 1; item <= upTo; item += 1) yield item;
}

export const notAFunction = 7;

function termsOf({ requestId, method, shardKey, labels, hints, priority, deadline, isShadow, requests }) {
  return { requestId, method, shardKey, labels, hints, priority, deadline, isShadow, requests: requests.length };
}
