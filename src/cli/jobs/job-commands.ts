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
    .addOption(
      // As a default its password would be in the help.
      new Option('--nats <url>', 'the NATS server, with JetStream, for example nats://10.0.0.9:4222')
        .env('INFERMUX_NATS')
        .makeOptionMandatory(),
    )
    .requiredOption('--stream <name>', 'name of the stream with the jobs; it is created if it does not exist')
    .option(
      '--files <directory>',
      'a directory that submitters and workers share; jobs then name rows of a .npy file in it instead of containing them',
      parsePath,
    );

/** Commands for work that nobody waits for. */
export function addJobCommands(program: Command): void {
  const worker = withStream(
    program
      .command('worker')
      .description('Process jobs from a NATS stream, and store the results in another one.')
      .argument('[models]', 'a directory of models, as for serve (default: the models of the package)', parsePath),
  )
    .option('--node-name <name>', 'name of the worker in the results (default: host name and process id)')
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
}

function addSubmit(program: Command): void {
  withStream(
    program
      .command('submit')
      .description('Send jobs to a NATS stream: the lines of a .jsonl file, or the rows of a .npy file.')
      .argument('<file>', 'a file of JSON lines, each with inputs or a request; or a .npy file', parsePath),
  )
    .option('--model <name>', 'the model, endpoint or handler of jobs that name none')
    .option('--input <name>', 'the input that gets the rows of a .npy file')
    .option('--rows <count>', 'rows of a .npy file in each job (default: as many as 256 kB hold)', parseCount)
    .option('--run <name>', 'name of the run, to continue an interrupted one (default: a new name)')
    .option('--results <file>', 'wait for the results, and write them to this file as JSON lines', parsePath)
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
