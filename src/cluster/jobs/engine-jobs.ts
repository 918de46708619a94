import { traceContextOf } from '../../contracts/trace-context.js';
import type { InferenceEngine } from '../../index.js';
import { doInTurns } from '../../open-inference/json/steps.js';
import { writeAnswer, writeShortAnswer } from '../../open-inference/rest/infer-answer.js';
import { allocateOf } from '../../server/inference/allocate.js';
import { Inference } from '../../server/inference/inference.js';
import { ServedNames } from '../../server/inference/served-names.js';
import { InferenceStatistics } from '../../server/inference/statistics.js';
import { readJob } from './bodies/job-body.js';
import type { JobFiles } from './bodies/job-files.js';
import type { Job } from './job-message.js';
import type { JobResult } from './job-worker.js';

/** How long a job waits where its engine is full: pulling as much as the engine takes makes that rare. */
const FULL_MS = 100;

/** Returns what does jobs in an engine. Models, endpoints and handlers are named as over REST. */
export function engineJobs(engine: InferenceEngine, files: JobFiles): (job: Job) => Promise<JobResult> {
  const inference = new Inference(engine, new ServedNames(engine), new InferenceStatistics(), () => undefined);
  const allocate = allocateOf(engine);
  // Nobody leaves: there is no client.
  const { signal } = new AbortController();
  return async ({ model, body, jsonBytes, traceparent, tracestate, id: requestId }) => {
    const { call, release } = await readJob(model, body, jsonBytes, files, allocate);
    try {
      const circumstances = { signal, requestId, traceContext: traceContextOf(traceparent, tracestate) };
      const { head, outputs } = await patiently(() => inference.infer(model, call, circumstances));
      const answer =
        writeShortAnswer(head, outputs, 'literal') ?? (await doInTurns(writeAnswer(head, outputs, 'literal')));
      const bytes = answer.text === undefined ? joined(answer.parts) : Buffer.from(answer.text);
      return { body: bytes, jsonBytes: answer.jsonBytes };
    } finally {
      release();
    }
  };
}

const joined = (parts: readonly Uint8Array[]) => (parts.length === 1 ? (parts[0] as Uint8Array) : Buffer.concat(parts));

/** Waits for room in the engine's queue: nobody waits for the answer, so there is no reason to refuse. */
async function patiently<T>(run: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await run();
    } catch (cause) {
      if ((cause as { readonly code?: unknown } | null)?.code !== 'QUEUE_FULL') throw cause;
      await new Promise((resolve) => setTimeout(resolve, FULL_MS));
    }
  }
}
