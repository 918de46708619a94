import { type Command, Option } from 'commander';
import { endingSoon } from '../ending-soon.js';
import { parseCount, parsePath } from '../flags.js';
import { LOG_LEVELS, SERVE_OPTIONS } from '../serve/serve-options.js';
import { FAILED, print, WRONG_USAGE } from '../terminal/print.js';
import { renderFacts } from '../terminal/tables.js';
import type { WorkerFlags } from './run-worker.js';
import type { SubmitFlags, SubmitReport } from './submit.js';

/** Options of `infermux serve` that are those of its engine. */
const OF_ENGINES = ['config', 'replicas', 'isolation', 'maxModels', 'loadOnStart', 'poll', 'grace'];

const withStream = (command: Command) =>
  command
    .requiredOption(
      '--nats <url>',
      'the NATS server, with JetStream, like nats://10.0.0.9:4222',
      process.env['INFERMUX_NATS'],
    )
    .requiredOption('--stream <name>', 'the stream of jobs; it is made if it is not there')
    .option(
      '--files <directory>',
      'where jobs may name files: a directory that submitters and workers share',
      parsePath,
    );

/** Commands for work that nobody waits for. */
export function addJobCommands(program: Command): void {
  const worker = withStream(
    program
      .command('worker')
      .description('Do jobs from a stream of NATS, and store their results in another one.')
      .argument('[models]', "a directory of models, as for serve; the package's own models if not said", parsePath),
  )
    .option('--node-name <name>', 'name of the worker, for results; host name and process if not said')
    .addOption(new Option('--log-level <level>', 'level of the log on stderr; info if not said').choices(LOG_LEVELS))
    .exitOverride();
  for (const option of SERVE_OPTIONS.filter((each) => OF_ENGINES.includes(each.attributeName())))
    worker.addOption(option);
  worker.action(async (directory: string | undefined, flags: WorkerFlags) => {
    const { runWorker } = await import('./run-worker.js');
    const models = directory ?? process.env['INFERMUX_MODELS'];
    await endingSoon(() => runWorker(models === undefined ? flags : { ...flags, models }));
  });
  addSubmit(program);
}

function addSubmit(program: Command): void {
  withStream(
    program
      .command('submit')
      .description('Put jobs into a stream of NATS: each line of a .jsonl file, or rows of a .npy file.')
      .argument('<file>', 'JSON lines with inputs or a request each; or a .npy file', parsePath),
  )
    .option('--model <name>', 'the model, endpoint or deployment with a handler, for jobs that name none')
    .option('--input <name>', 'the input that the rows of a .npy file are for')
    .option('--rows <count>', 'rows of a .npy file in each job; as many as make 256 kB if not said', parseCount)
    .option('--run <name>', 'name of these jobs together, to put an interrupted file in again; a new one if not said')
    .option('--results <file>', 'wait for the results, and write them there as JSON lines', parsePath)
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

function submitTable({ file, stream, run, jobs, known, done, dead }: SubmitReport): string {
  return renderFacts([
    ['file', file],
    ['stream', stream],
    ['run', run],
    ['jobs', known === 0 ? jobs : `${jobs}, of which ${known} were there already`],
    ...(done === undefined ? [] : [['done', done]]),
    ...(dead === undefined || dead === 0 ? [] : [['dead', `${dead}: their lines say why`]]),
  ]);
}
