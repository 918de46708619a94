import type { ErrorCode, ModelInspection } from '../../index.js';
import type { BenchOptions, BenchReport } from '../bench/bench.js';
import type { ModelReport } from '../inspect.js';
import type { ModelPlace } from '../models/model-place.js';

/** What a child process does with a model. */
export interface Jobs {
  /** Loads a model: its hash is checked, and its warm-up runs. Tells what it takes and gives. */
  readonly check: {
    readonly given: { readonly place: ModelPlace; readonly model: string };
    readonly result: Pick<ModelInspection, 'inputs' | 'outputs'>;
  };
  /** Runs a small model with an execution provider. */
  readonly provider: { readonly given: { readonly provider: string }; readonly result: undefined };
  readonly inspect: { readonly given: { readonly path: string }; readonly result: ModelReport };
  readonly bench: { readonly given: BenchOptions; readonly result: BenchReport };
}

export type JobName = keyof Jobs;

/** From the command to the child. */
export type JobMessage = {
  readonly [Name in JobName]: { readonly job: Name; readonly given: Jobs[Name]['given'] };
}[JobName];

/** What a model is about to do in its process. */
export type Phase = 'load' | 'run';

/** From the child to the command. */
export type ChildMessage =
  /** A load or a run begins now. With the bytes of the model's files. */
  | { readonly kind: 'begins'; readonly phase: Phase; readonly bytes: number }
  | { readonly kind: 'progress'; readonly done: number; readonly total: number }
  /** The process takes more memory than it may. */
  | { readonly kind: 'memory' }
  | { readonly kind: 'result'; readonly result: Jobs[JobName]['result'] }
  | { readonly kind: 'error'; readonly code: ErrorCode; readonly message: string };

/** How a job says that it gets on. */
export interface Signs {
  begins(phase: Phase, bytes: number): void;
  progress(done: number, total: number): void;
}
