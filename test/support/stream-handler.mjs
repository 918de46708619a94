// A handler whose answers are streams, of the kind that its requests ask for.
import { createReadStream } from 'node:fs';
import { Readable } from 'node:stream';

let yielded = 0;
let ended = 0;

export function handle(request, context) {
  switch (request.as) {
    case 'generator':
      return numbers(request);
    case 'sync generator':
      return syncNumbers(request.count);
    case 'readable':
      return Readable.from(['a', 'b', 'c']);
    case 'late file':
      // Nobody wants it any more when it is there.
      return new Promise((resolve) => {
        context.signal.addEventListener('abort', () => resolve(createReadStream('/nowhere/file')));
      });
    case 'web stream':
      return new Blob(['text']).stream();
    case 'odd iterable':
      return { [Symbol.asyncIterator]: () => ({ next: () => 'no object' }) };
    case 'iterable without return':
      return { [Symbol.asyncIterator]: () => ({ next: async () => ({ done: false, value: 1 }) }) };
    case 'list':
      return [1, 2, 3];
    case 'models':
      return models(request, context);
    case 'stuck end':
      return stuckEnd();
    case 'slow end':
      return slowEnd(request.done);
    case 'short, but endless in a shadow':
      return numbers(context.replica.startsWith('shadow') ? { count: 1e12, waitMs: 1 } : { count: 3 });
    case 'nested':
      return nested(request, context);
    default:
      return { yielded, ended };
  }
}

async function* numbers({ count, throwAt, exitAt, oddAt, waitMs, large }) {
  try {
    for (let index = 0; index < count; index += 1) {
      if (index === throwAt) throw new Error('as asked');
      if (waitMs !== undefined) await new Promise((resolve) => setTimeout(resolve, waitMs));
      if (index === exitAt) process.exit(1);
      yielded += 1;
      yield index === oddAt ? () => undefined : large ? new Uint8Array(large) : index;
    }
  } finally {
    ended += 1;
  }
}

function* syncNumbers(count) {
  try {
    for (let index = 0; index < count; index += 1) yield index;
  } finally {
    ended += 1;
  }
}

async function* models({ names, x }, context) {
  for (const name of names) yield (await context.run(name, { x: { dims: [1, 4], data: x } })).y.data[0];
}

async function* slowEnd(done) {
  try {
    for (;;) yield 1;
  } finally {
    await new Promise((resolve) => setTimeout(resolve, 50));
    Atomics.add(done, 0, 1);
  }
}

async function* nested({ target, options }, context) {
  yield 1;
  yield 2;
  await context.engine.run(target, { as: 'generator', count: 1e9 }, options);
}

async function* stuckEnd() {
  try {
    for (;;) yield 1;
  } finally {
    await new Promise(() => undefined);
  }
}
