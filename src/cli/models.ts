import { resolve } from 'node:path';
import { messageOf } from '../common/errors.js';
import { printable } from '../common/values/printable.js';
import { createEngine, type InferenceEngine, type ModelReport } from '../index.js';
import { renderFacts } from './terminal/tables.js';

/** A directory of models as an engine sees it. */
export interface RepositoryReport {
  readonly directory: string;
  readonly models: readonly ListedModel[];
  /** Names that look like models but are not, with the reason. */
  readonly passedOver: Readonly<Record<string, string>>;
  /** Problems that keep models from being served. */
  readonly problems: readonly { readonly model: string; readonly problem: string }[];
}

export type ListedModel = Pick<
  ModelReport,
  'id' | 'version' | 'isDefault' | 'format' | 'bytes' | 'isPinned' | 'licence'
>;

/** @throws InfermuxError when the directory cannot be read. */
export function listModels(directory: string): Promise<RepositoryReport> {
  return withRepository(directory, (engine) => report(directory, engine, []));
}

/**
 * Reads the directory and loads each model: its hash is checked, and its warm-up runs.
 *
 * @throws InfermuxError when the directory cannot be read.
 */
export function checkModels(
  directory: string,
  progress: (done: number, total: number) => void,
): Promise<RepositoryReport> {
  return withRepository(directory, async (engine) => {
    const failures: { model: string; problem: string }[] = [];
    const models = engine.models.list().filter(({ version }) => version !== undefined);
    for (const [done, { id, version }] of models.entries()) {
      const model = `${id}@${version}`;
      progress(done, models.length);
      try {
        await engine.models.load(model);
        await engine.models.unload(model);
      } catch (error) {
        failures.push({ model, problem: messageOf(error) });
      }
    }
    progress(models.length, models.length);
    return report(directory, engine, failures);
  });
}

async function withRepository<T>(directory: string, work: (engine: InferenceEngine) => Promise<T>): Promise<T> {
  const engine = await createEngine({ models: directory, replicas: 1 });
  try {
    return await work(engine);
  } finally {
    await engine.close();
  }
}

async function report(
  directory: string,
  engine: InferenceEngine,
  failures: RepositoryReport['problems'],
): Promise<RepositoryReport> {
  const all = engine.models.list();
  const models = all.flatMap(({ id, version, isDefault, format, bytes, isPinned, licence }) =>
    version === undefined ? [] : [{ id, version, isDefault, format, bytes, isPinned, licence }],
  );
  const found = all.flatMap(({ id, problem }) => (problem === undefined ? [] : [{ model: id, problem }]));
  const { passedOver } = await engine.models.sync();
  return {
    directory: resolve(directory),
    models,
    passedOver,
    problems: [...found, ...failures],
  };
}

export function repositoryTables({ models, problems, passedOver }: RepositoryReport): string {
  const rows = models.map(({ id, version, format, bytes, isPinned, licence }) => [
    ...[id, version, format, bytes.toLocaleString('en')],
    ...[isPinned ? 'yes' : '', licence ?? ''],
  ]);
  const table = renderFacts(rows, {
    head: ['model', 'version', 'format', 'bytes', 'pinned', 'licence'],
    colAligns: ['left', 'right', 'left', 'right', 'left', 'left'],
  });
  const notes = Object.entries(passedOver).map(([name, reason]) => printable(`passed over: ${name}: ${reason}`));
  const bad = problems.map(({ model, problem }) => printable(`problem: ${model}: ${problem}`));
  const count = `${models.length} to be served, ${problems.length === 1 ? 'one problem' : `${problems.length} problems`}`;
  return [table, ...notes, ...bad, count].join('\n');
}
