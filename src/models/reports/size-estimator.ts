import type { WeightPlacement } from '../../contracts/model-reference.js';
import type { RegisteredModel } from '../registered-model.js';

type Kind = 'onnx' | 'onnx with external data' | 'ort' | 'shared';

/**
 * Memory of a session for each byte of its files, before any was measured: the middle one of the models of
 * `npm run bench:memory`, rounded.
 */
const MULTIPLIERS: Readonly<Record<Kind, number>> = {
  onnx: 2,
  'onnx with external data': 1.5,
  ort: 2,
  shared: 0.2,
};

/** What a small model takes is mostly what every session takes, and says nothing of a large one. */
const TELLING_BYTES = 2 ** 20;

/** Memory is measured for the whole process, where other threads take some too: the lower middle one of so many is taken. */
const MOST_MEASUREMENTS = 9;

/** Guesses what memory a session takes: by its files, and better once models were loaded. */
export class SizeEstimator {
  readonly #weights: () => WeightPlacement;
  readonly #measured = new Map<string, number[]>();
  readonly #sums = new Map<Kind, { files: number; memory: number }>();

  /** @param weights of models that name none. */
  constructor(weights: () => WeightPlacement) {
    this.#weights = weights;
  }

  /** A load of the model took so much memory; negative where the process gave some back meanwhile, which says nothing. */
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
