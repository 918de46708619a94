import { writeWeightyModels } from '../../memory/models.js';
import { type BenchModel, writeLongModel } from '../models.js';

/** Ids of models of the memory bench, and the rows of a request that takes about 10 ms on one thread. */
const ROWS_OF_WEIGHTY: Readonly<Record<string, number>> = { mlp: 16, transformer: 1 };

export interface HeavyModels {
  /** Models whose runs are worth several threads. The first has the most weights. */
  readonly heavy: readonly BenchModel[];
  readonly long: BenchModel;
  readonly short: BenchModel;
}

/** @param others the models of the bench: one of them is heavy, and another one short. */
export function heavyModels(folder: string, others: readonly BenchModel[]): HeavyModels {
  const weighty = writeWeightyModels(folder, Object.keys(ROWS_OF_WEIGHTY)).map((model): BenchModel => {
    const { id, path, row } = model;
    const rows = ROWS_OF_WEIGHTY[id] as number;
    const title = `${model.title}, ${rows} ${rows === 1 ? 'row' : 'rows'} a request`;
    return { ...{ id, title, path, input: 'x', output: 'y' }, dims: [rows, ...row], batchable: true };
  });
  const named = (id: string) => others.find((model) => model.id === id) as BenchModel;
  return { heavy: [...weighty, named('conv')], long: writeLongModel(folder), short: named('mlp-512') };
}
