import { type Command, Option } from 'commander';
import { endingSoon } from '../ending-soon.js';
import { parseCount, parsePath } from '../flags.js';
import { LOG_LEVELS, SERVE_OPTIONS } from '../serve/serve-options.js';
import { FAILED, print, progressOf, WRONG_USAGE } from '../terminal/print.js';
import { printable } from '../terminal/printable.js';
import { renderFacts, renderTable } from '../terminal/tables.js';
import type { WorkerFlags } from './run-worker.js';
import type { RunFlags, RunState } from './runs.js';
import type { SubmitFlags, SubmitReport } from './submit.js';

/** Options of `infermux serve` that are those of its engine. */
const OF_ENGINES = ['config', 'replicas', 'isolation', 'maxModels', 'loadOnStart', 'poll', 'grace'];

const withStream = (command: Command, stream: string) =>
  command
    .addOption(
      // As a default its password would be in the help.
      new Option('--nats <url>', 'the NATS server, with JetStream, for example nats://10.0.0.9:4222')
        .env('INFERMUX_NATS')
        .makeOptionMandatory(),
    )
    .requiredOption('--stream <name>', stream);

const MADE_STREAM = 'name of the stream with the jobs; it is created if it does not exist';

const FILES = [
  '--files <directory>',
  'a directory that submitters and workers share; jobs then name rows of a .npy file in it instead of containing them',
] as const;

const RESULTS = '--results <file>';

/** Commands for work that nobody waits for. */
export function addJobCommands(program: Command): void {
  const worker = withStream(
    program
      .command('worker')
      .description('Process jobs from a NATS stream, and store the results in another one.')
      .argument('[models]', 'a directory of models, as for serve (default: the models of the package)', parsePath),
    MADE_STREAM,
  )
    .option(...FILES, parsePath)
    .addOption(
      new Option('--node-name <name>', 'name of the worker in the results (default: host name and process id)').env(
        'INFERMUX_NODE_NAME',
      ),
    )
    .addOption(new Option('--log-level <level>', 'level of the log on stderr (default: info)').choices(LOG_LEVELS))
    .exitOverride();
  for (const option of SERVE_OPTIONS.filter((each) => OF_ENGINES.includes(each.attributeName())))
    worker.addOption(option);
  worker.action(async (directory: string | undefined, flags: WorkerFlags) => {
    const { runWorker } = await import('./run-worker.js');
    const models = directory ?? process.env['INFERMUX_MODELS'];
    await endingSoon(() => runWorker(models === undefined ? flags : { ...flags, models }));
  });
  addSubmit(program);
  addJobs(program);
}

function addSubmit(program: Command): void {
  withStream(
    program
      .command('submit')
      .description('Send jobs to a NATS stream: the lines of a .jsonl file, or the rows of a .npy file.')
      .argument('<file>', 'a file of JSON lines, each with inputs or a request; or a .npy file', parsePath),
    MADE_STREAM,
  )
    .option(...FILES, parsePath)
    .option('--model <name>', 'the model, endpoint or handler of jobs that name none')
    .option('--input <name>', 'the input that gets the rows of a .npy file')
    .option('--rows <count>', 'rows of a .npy file in each job (default: as many as 256 kB hold)', parseCount)
    .option('--run <name>', 'name of the run, to continue an interrupted one (default: a new name)')
    .option(RESULTS, 'wait for the results, and write them to this file as JSON lines', parsePath)
    .option('--json', 'print one JSON object instead of a table')
    .exitOverride()
    .action(async (file: string, { json, ...flags }: SubmitFlags & { json?: true }, command: Command) => {
      if (flags.results === file) command.error('error: --results names the file of jobs', { exitCode: WRONG_USAGE });
      const { submit } = await import('./submit.js');
      const { progressBar } = await import('../terminal/progress-bar.js');
      let bar = progressBar('jobs');
      const submitted = (count: number, total: number) => bar.update(count, total);
      let isWaiting = false;
      const ended = (count: number, total: number) => {
        if (!isWaiting) {
          bar.stop();
          bar = progressBar('results');
        }
        isWaiting = true;
        bar.update(count, total);
      };
      const report = await endingSoon(() => submit(file, flags, { submitted, ended })).finally(() => bar.stop());
      print(json, report, submitTable);
      if ((report.dead ?? 0) > 0) process.exitCode = FAILED;
    });
}

function addJobs(program: Command): void {
  withStream(
    program.command('jobs').description('Show how far the runs of a NATS stream are, or fetch the results of one.'),
    'name of the stream with the jobs',
  )
    .option('--run <name>', 'only this run')
    .option(RESULTS, 'with --run: wait for its results, and write them to this file as JSON lines', parsePath)
    .option('--delete', 'with --run: delete its jobs, results and dead jobs')
    .option('--json', 'print one JSON object instead of a table')
    .exitOverride()
    .action(async ({ json, ...flags }: RunFlags & { json?: true }, command: Command) => {
      const { run, results } = flags;
      const isDeleting = flags.delete === true;
      if (run === undefined && (results !== undefined || isDeleting))
        command.error('error: --results and --delete need the name of a run: --run', { exitCode: WRONG_USAGE });
      if (results !== undefined && isDeleting)
        command.error('error: give either --results or --delete', { exitCode: WRONG_USAGE });
      const { fetchRun, removeRun, showRuns } = await import('./runs.js');
      const bar = await progressOf('results');
      const act = async (): Promise<readonly RunState[]> => {
        if (run === undefined) return showRuns(flags);
        if (results !== undefined) return [await fetchRun({ ...flags, run, results }, bar.update)];
        return isDeleting ? removeRun({ ...flags, run }) : showRuns(flags);
      };
      const states = await endingSoon(act).finally(() => bar.stop());
      print(json, { stream: flags.stream, runs: states, ...(isDeleting ? { deleted: true } : {}) }, runsTable);
      if (results !== undefined && states.some(({ dead }) => dead > 0)) process.exitCode = FAILED;
    });
}

interface RunsReport {
  readonly stream: string;
  readonly runs: readonly RunState[];
  readonly deleted?: boolean;
}

function runsTable({ stream, runs, deleted = false }: RunsReport): string {
  if (runs.length === 0) return `the stream ${stream} has no jobs and no results`;
  return renderTable(
    [deleted ? 'deleted run' : 'run', 'waiting', 'done', 'dead'],
    runs.map(({ run, waiting, done, dead }) => [printable(run), waiting, done, dead]),
  );
}

function submitTable({ file, stream, run, jobs, known, done, dead }: SubmitReport): string {
  return renderFacts([
    ['file', file],
    ['stream', stream],
    ['run', run],
    ['jobs', known === 0 ? jobs : `${jobs}, of which ${known} were there already`],
    ...(done === undefined
      ? [['results', `infermux jobs --stream ${stream} --run ${run} --results FILE`]]
      : [['done', done]]),
    ...(dead === undefined || dead === 0 ? [] : [['dead', `${dead}: their lines say why`]]),
  ]);
}
