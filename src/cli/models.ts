import { resolve } from 'node:path';
import { createEngine, type InferenceEngine, type ModelReport } from '../index.js';
import { type Limits, ModelProcess } from './children/model-process.js';
import { messageOf, printable } from './terminal/printable.js';
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
 * Reads the directory and loads each model in a child process: its hash is checked, and its warm-up runs.
 *
 * @throws InfermuxError when the directory cannot be read.
 */
export function checkModels(
  directory: string,
  limits: Limits,
  progress: (done: number, total: number) => void,
): Promise<RepositoryReport> {
  // Its process starts while this one reads the directory.
  const checker = new ModelChecker(directory, limits);
  return withRepository(directory, async (engine) => {
    const failures: { model: string; problem: string }[] = [];
    const models = engine.models.list().filter(({ version }) => version !== undefined);
    for (const [done, { id, version }] of models.entries()) {
      const model = `${id}@${version}`;
      progress(done, models.length);
      const problem = await checker.check(model);
      if (problem !== undefined) failures.push({ model, problem });
    }
    progress(models.length, models.length);
    return report(directory, engine, failures);
  }).finally(() => checker.close());
}

/** Checks models of a directory in a child process, which is replaced when a model ends it. */
class ModelChecker {
  readonly #directory: string;
  readonly #limits: Limits;
  #child: ModelProcess;

  constructor(directory: string, limits: Limits) {
    this.#directory = directory;
    this.#limits = limits;
    this.#child = new ModelProcess(limits);
  }

  /** Returns what is wrong with the model; undefined when it can be loaded. */
  async check(model: string): Promise<string | undefined> {
    for (;;) {
      if (!this.#child.isAlive) this.#child = new ModelProcess(this.#limits);
      const { isFresh } = this.#child;
      const answer = await this.#child.ask('check', { directory: this.#directory, model });
      if (answer.kind === 'result') return undefined;
      if (answer.kind === 'error') return messageOf(answer.error);
      // Otherwise the models before it may have left behind what killed the process.
      if (isFresh || answer.cause === 'time') return answer.reason;
    }
  }

  close(): void {
    this.#child.close();
  }
}

/** Without replicas nothing is loaded, pinned models included. */
async function withRepository<T>(directory: string, work: (engine: InferenceEngine) => Promise<T>): Promise<T> {
  const engine = await createEngine({ models: directory, replicas: 0 });
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
  const { passedOver } = await engine.models.sync({ wait: false });
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
