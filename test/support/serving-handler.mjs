// A handler for tests of the server: its functions are named by the requests' parameter `method`.

export function handle(request, { requestId, hints, shardKey, priority }) {
  return { request, requestId, hints, shardKey, priority };
}

export function fail() {
  throw new Error('as asked');
}

export function answer({ value }) {
  return value === 'big' ? { large: 2n ** 63n, list: new Float32Array([1, 2.5]), set: new Set([1]) } : value;
}

export function sum({ x }) {
  return { sum: { type: 'float32', dims: [1], data: Float32Array.of(x.data.reduce((all, each) => all + each, 0)) } };
}

let ended = 0;

export async function* count({ to, throwAt, large }) {
  try {
    for (let index = 0; index < to; index += 1) {
      if (index === throwAt) throw new Error('as asked');
      yield large ? { index, text: 'x'.repeat(large) } : { index };
    }
  } finally {
    ended += 1;
  }
}

export function endedStreams() {
  return { ended };
}

export function wait({ ms }, { signal }) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => resolve({ waited: ms }), ms);
    signal.addEventListener('abort', () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}

/** An item that looks like an error. */
export async function* oddItems() {
  yield { error: 'an item', code: 'INTERNAL' };
}

export function trace(_, { traceContext }) {
  return traceContext ?? { none: true };
}

let calls = 0;

export function counted() {
  calls += 1;
  return { counted: calls };
}
