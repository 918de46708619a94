import { resolve } from 'node:path';
import { createEngine, type InferenceEngine, type ModelReport } from '../../index.js';
import type { Jobs } from '../children/jobs.js';
import { type Limits, ModelProcess } from '../children/model-process.js';
import { messageOf, printable } from '../terminal/printable.js';
import { renderFacts } from '../terminal/tables.js';
import type { DeclaredModel } from './declarations.js';
import { idsOf, type ModelPlace, optionsOf } from './model-place.js';

/** Models as an engine sees them: of a directory, or of a finder. */
export interface RepositoryReport {
  readonly directory?: string;
  readonly finder?: string;
  readonly models: readonly ListedModel[];
  /** Names that look like models but are not, with the reason. */
  readonly passedOver: Readonly<Record<string, string>>;
  /** Problems that keep models from being served. */
  readonly problems: readonly Problem[];
}

interface Problem {
  readonly model: string;
  readonly problem: string;
}

export type ListedModel = Pick<
  ModelReport,
  'id' | 'version' | 'isDefault' | 'format' | 'bytes' | 'isPinned' | 'licence'
>;

/** @throws Error when the directory cannot be read, or the finder cannot be used. */
export function listModels(place: ModelPlace): Promise<RepositoryReport> {
  return withModels(place, (engine, problems) => report(place, engine, problems));
}

/**
 * Looks for the models and loads each in a child process: its hash is checked, and its warm-up runs.
 *
 * @param isIsolated whether each gets a process of its own; otherwise one checks them all, until a model ends it.
 * @throws Error as {@link listModels}.
 */
export async function checkModels(
  place: ModelPlace,
  limits: Limits,
  isIsolated: boolean,
  progress: (done: number, total: number) => void,
): Promise<RepositoryReport> {
  return (await examineModels(place, { limits, isIsolated }, progress)).report;
}

/** What is found out about models by loading them. */
export interface Examined {
  readonly report: RepositoryReport;
  /** Those that can be loaded. */
  readonly loaded: readonly DeclaredModel[];
}

/** As {@link checkModels}, and tells what those take and give that can be loaded. */
export function examineModels(
  place: ModelPlace,
  { limits, isIsolated }: { readonly limits: Limits; readonly isIsolated: boolean },
  progress: (done: number, total: number) => void,
): Promise<Examined> {
  // Its process starts while this one looks for the models.
  const checker = new ModelChecker(place, limits, isIsolated);
  return withModels(place, async (engine, problems) => {
    const failures: Problem[] = [...problems];
    const models = engine.models
      .list()
      .flatMap(({ id, version, isDefault }) => (version === undefined ? [] : [{ id, version, isDefault }]));
    const loaded: DeclaredModel[] = [];
    for (const [done, { id, version, isDefault }] of models.entries()) {
      const model = `${id}@${version}`;
      progress(done, models.length);
      // A finder need not know the version by its number.
      const found = await checker.check('directory' in place ? model : id);
      if ('problem' in found) failures.push({ model, ...found });
      else loaded.push({ id, version, isDefault, ...found });
    }
    progress(models.length, models.length);
    return { report: await report(place, engine, failures), loaded };
  }).finally(() => checker.close());
}

/** Checks models in a child process, which is replaced when a model ends it. */
class ModelChecker {
  readonly #place: ModelPlace;
  readonly #limits: Limits;
  readonly #isIsolated: boolean;
  #child: ModelProcess;

  constructor(place: ModelPlace, limits: Limits, isIsolated: boolean) {
    this.#place = place;
    this.#limits = limits;
    this.#isIsolated = isIsolated;
    this.#child = new ModelProcess(limits);
  }

  /** Returns what the model takes and gives, or what is wrong with it. */
  async check(model: string): Promise<Jobs['check']['result'] | { readonly problem: string }> {
    if (this.#isIsolated && !this.#child.isFresh) this.#child.close();
    for (;;) {
      if (!this.#child.isAlive) this.#child = new ModelProcess(this.#limits);
      const { isFresh } = this.#child;
      const answer = await this.#child.ask('check', { place: this.#place, model });
      if (answer.kind === 'result') return answer.result;
      if (answer.kind === 'error') return { problem: messageOf(answer.error) };
      // Otherwise the models before it may have left behind what killed the process.
      if (isFresh || answer.cause === 'time') return { problem: answer.reason };
    }
  }

  close(): void {
    this.#child.close();
  }
}

/** Without replicas nothing is loaded, pinned models included. @param work is told which models were not found. */
async function withModels<T>(
  place: ModelPlace,
  work: (engine: InferenceEngine, problems: readonly Problem[]) => Promise<T>,
): Promise<T> {
  const engine = await createEngine({ ...(await optionsOf(place)), replicas: 0 });
  try {
    const problems: Problem[] = [];
    for (const id of 'directory' in place ? [] : await idsOf(place)) {
      await engine.models.find(id).catch((error: unknown) => problems.push({ model: id, problem: messageOf(error) }));
    }
    return await work(engine, problems);
  } finally {
    await engine.close();
  }
}

async function report(
  place: ModelPlace,
  engine: InferenceEngine,
  failures: readonly Problem[],
): Promise<RepositoryReport> {
  const all = engine.models.list();
  const models = all.flatMap(({ id, version, isDefault, format, bytes, isPinned, licence }) =>
    version === undefined ? [] : [{ id, version, isDefault, format, bytes, isPinned, licence }],
  );
  const found = all.flatMap(({ id, problem }) => (problem === undefined ? [] : [{ model: id, problem }]));
  const passedOver = 'directory' in place ? (await engine.models.sync({ wait: false })).passedOver : {};
  const where = 'directory' in place ? { directory: resolve(place.directory) } : { finder: resolve(place.finder) };
  return { ...where, models, passedOver, problems: [...found, ...failures] };
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
  const notes = Object.entries(passedOver).map(([name, reason]) => printable(`skipped: ${name}: ${reason}`));
  const bad = problems.map(({ model, problem }) => printable(`problem: ${model}: ${problem}`));
  const count = `${models.length === 1 ? '1 model' : `${models.length} models`} can be served, ${problems.length === 1 ? '1 problem' : `${problems.length} problems`}`;
  return [table, ...notes, ...bad, count].join('\n');
}
