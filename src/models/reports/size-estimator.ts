import type { WeightPlacement } from '../../contracts/model-reference.js';
import type { RegisteredModel } from '../registered-model.js';

type Kind = 'onnx' | 'onnx with external data' | 'ort' | 'shared';

/**
 * Memory of a session for each byte of its files, until a load was measured: the rounded median of the models of
 * `npm run bench:memory`.
 */
const MULTIPLIERS: Readonly<Record<Kind, number>> = {
  onnx: 2,
  'onnx with external data': 1.5,
  ort: 2,
  shared: 0.2,
};

/** Smaller models take mostly what every session takes, which says nothing about large models. */
const TELLING_BYTES = 2 ** 20;

/** Measurements cover the whole process, with other threads. So the lower median of this many is taken. */
const MOST_MEASUREMENTS = 9;

/** Estimates the memory of a session: by the model's files at first, and by measurements after loads. */
export class SizeEstimator {
  readonly #weights: () => WeightPlacement;
  readonly #measured = new Map<string, number[]>();
  readonly #sums = new Map<Kind, { files: number; memory: number }>();

  /** @param weights the placement of models that name none. */
  constructor(weights: () => WeightPlacement) {
    this.#weights = weights;
  }

  /** @param memory bytes that a load took. It is 0 or less if the process freed memory meanwhile, and then ignored. */
  loaded(model: RegisteredModel, memory: number): void {
    if (memory <= 0) return;
    const measured = this.#measured.get(model.key) ?? [];
    this.#measured.set(model.key, measured);
    measured.push(memory);
    if (measured.length > MOST_MEASUREMENTS) measured.shift();
    if (model.bytes < TELLING_BYTES) return;
    const kind = this.#kindOf(model);
    const { files, memory: all } = this.#sums.get(kind) ?? { files: 0, memory: 0 };
    this.#sums.set(kind, { files: files + model.bytes, memory: all + memory });
  }

  /** Bytes of memory for one session. */
  estimate(model: RegisteredModel): number {
    const measured = this.#measured.get(model.key);
    if (measured !== undefined) return median(measured);
    const kind = this.#kindOf(model);
    const sums = this.#sums.get(kind);
    return Math.round(model.bytes * (sums === undefined ? MULTIPLIERS[kind] : sums.memory / sums.files));
  }

  forget(key: string): void {
    this.#measured.delete(key);
  }

  #kindOf({ format, externalData = [], weights = this.#weights() }: RegisteredModel): Kind {
    if (weights === 'shared' && format === 'onnx') return 'shared';
    return externalData.length > 0 ? 'onnx with external data' : format;
  }
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((left, right) => left - right);
  return sorted[(sorted.length - 1) >> 1] as number;
}
