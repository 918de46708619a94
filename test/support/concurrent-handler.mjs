// A handler that does what its requests ask for, and counts how many of them are under way in its thread at once.
import { threadId } from 'node:worker_threads';

let now = 0;
let most = 0;

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export async function handle(request, context) {
  now += 1;
  most = Math.max(most, now);
  // A request that nobody wants any more does not count: another takes its place at once.
  let leave = () => {
    leave = () => undefined;
    now -= 1;
  };
  if (request.counts) context.signal.addEventListener('abort', () => leave());
  // Of each thread of the test, at most so many: a thread that dies leaves its count here.
  if (request.counts) Atomics.store(request.counts, threadId % request.counts.length, most);
  try {
    return await answer(request, context);
  } finally {
    leave();
  }
}

async function answer(request, context) {
  switch (request.do) {
    case 'most':
      await sleep(request.ms);
      return most;
    case 'run': {
      if (request.ms !== undefined) await sleep(request.ms);
      const { y } = await context.run(request.model, {
        x: { dims: [1, 4], data: Float32Array.of(request.x, 0, 0, 0) },
      });
      return y.data[0];
    }
    case 'throw':
      await sleep(request.ms);
      throw new Error(`as asked by ${request.x}`);
    case 'never':
      return new Promise(() => undefined);
    case 'exit':
      await sleep(request.ms);
      return process.exit(1);
    case 'signal':
      return [context.signal.aborted, context.modelId, context.replica];
    case 'nested':
      return context.engine.run(request.target, request.request, request.options);
    case 'chain':
      if (request.times) Atomics.add(request.times, 0, 1);
      return request.left === 0
        ? 0
        : 1 +
            (await context.engine.run(request.to[request.left % request.to.length], {
              ...request,
              left: request.left - 1,
            }));
    case 'cancel nested': {
      const controller = new AbortController();
      const run = context.engine.run(request.target, { do: 'never' }, { signal: controller.signal });
      controller.abort();
      return run.catch(({ code }) => code);
    }
    case 'cancelled before':
      return context.engine.run(request.target, { do: 'echo' }, { signal: AbortSignal.abort() });
    case 'no signal':
      return context.engine.run(request.target, { do: 'echo' }, { signal: 7 });
    case 'no options':
      return context.engine.run(request.target, { do: 'echo' }, 7);
    case 'count and exit':
      Atomics.add(request.times, 0, 1);
      return process.exit(1);
    case 'slow end':
      try {
        return await new Promise((_, reject) =>
          context.signal.addEventListener('abort', () => reject(new Error('over'))),
        );
      } finally {
        await sleep(50);
        Atomics.add(request.done, 0, 1);
      }
    case 'leave nested':
      void context.engine.run(request.target, { do: 'never' });
      return 'left';
    case 'unclonable':
      return context.engine.run(request.target, () => undefined);
    default:
      return request.x;
  }
}
