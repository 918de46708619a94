import type { SessionWeights, WeightPlacement } from '../../contracts/model-reference.js';
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

/** What loads of one model took. */
interface Measured {
  readonly weights: SessionWeights;
  readonly memory: number[];
}

/** Estimates the memory of a session: by the model's files at first, and by measurements after loads. */
export class SizeEstimator {
  readonly #weights: () => WeightPlacement;
  readonly #measured = new Map<string, Measured>();
  readonly #sums = new Map<Kind, { files: number; memory: number }>();

  /** @param weights the placement of models that name none. */
  constructor(weights: () => WeightPlacement) {
    this.#weights = weights;
  }

  /**
   * @param memory bytes that a load took. It is 0 or less if the process freed memory meanwhile, and then ignored.
   * @param weights where the load placed the weights. The next load is expected to do as the last one.
   */
  loaded(model: RegisteredModel, memory: number, weights: SessionWeights): void {
    const measured = this.#measuredOf(model, weights);
    if (memory <= 0) return;
    measured.push(memory);
    if (measured.length > MOST_MEASUREMENTS) measured.shift();
    if (model.bytes < TELLING_BYTES) return;
    const kind = kindOf(model, weights);
    const { files, memory: all } = this.#sums.get(kind) ?? { files: 0, memory: 0 };
    this.#sums.set(kind, { files: files + model.bytes, memory: all + memory });
  }

  /** Sessions of the model share their weights from now on. */
  shares(model: RegisteredModel): void {
    this.#measuredOf(model, 'shared');
  }

  /** Bytes of memory for one session. */
  estimate(model: RegisteredModel): number {
    const { weights, memory = [] } = this.#measured.get(model.key) ?? {};
    if (memory.length > 0) return median(memory);
    const kind = kindOf(model, weights ?? model.weights ?? this.#weights());
    const sums = this.#sums.get(kind);
    return Math.round(model.bytes * (sums === undefined ? MULTIPLIERS[kind] : sums.memory / sums.files));
  }

  forget(key: string): void {
    this.#measured.delete(key);
  }

  #measuredOf({ key }: RegisteredModel, weights: SessionWeights): number[] {
    const known = this.#measured.get(key);
    if (known?.weights === weights) return known.memory;
    const memory: number[] = [];
    this.#measured.set(key, { weights, memory });
    return memory;
  }
}

/** @param weights with `auto` a model is private until it was loaded otherwise. */
function kindOf({ format, externalData = [] }: RegisteredModel, weights: WeightPlacement): Kind {
  if (weights === 'shared' && format === 'onnx') return 'shared';
  return externalData.length > 0 ? 'onnx with external data' : format;
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((left, right) => left - right);
  return sorted[(sorted.length - 1) >> 1] as number;
}
