#!/usr/bin/env node
import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { Command, CommanderError, Option } from 'commander';
import type { Threads } from './bench/bench.js';
import type { InputShapes } from './bench/random-feeds.js';
import { addClusterCommands } from './cluster/cluster-commands.js';
import { endingSoon } from './ending-soon.js';
import {
  addInputShape,
  integersUpTo,
  MAX_CALLERS,
  MAX_REPLICAS,
  parsePath,
  parseSeconds,
  parseThreads,
  parseWritableFile,
  TIMEOUT,
} from './flags.js';
import { addJobCommands } from './jobs/job-commands.js';
import { addModelCommands } from './models/model-commands.js';
import { replaceFile } from './replace-file.js';
import { SERVE_OPTIONS, type ServeFlags, withoutRefusals } from './serve/serve-options.js';
import { FAILED, print, progressOf, WRONG_USAGE } from './terminal/print.js';
import { messageOf, printableLines, quoted } from './terminal/printable.js';
import type { TopFlags } from './top/top.js';

// Each command imports what it needs when it begins: a quarter of a second for the engine, and as much for a server.

const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
  version: string;
};

const program = new Command('infermux')
  .description('Many ONNX models on a pool of worker threads inside one Node.js process.')
  .version(version)
  // Its errors repeat what was typed, or what a script took from somewhere.
  .configureOutput({ writeErr: (text) => process.stderr.write(printableLines(text)) })
  .exitOverride();

program
  .command('demo')
  .description(
    'Send 1,797 handwritten digits to twelve models on two replicas, with room for all models and with room for three.',
  )
  .option('--json', 'print one JSON object instead of tables')
  .option('--control', 'change replicas, settings and traffic under load instead, and show what the callers notice')
  .option('--hold <seconds>', 'with --control: how long to continue after each change (default: 1.5)', parseSeconds)
  .exitOverride()
  .action(async ({ json, control, hold = 1.5 }: DemoFlags, command: Command) => {
    if (control !== true && command.getOptionValueSource('hold') === 'cli') {
      command.error("error: option '--hold' needs '--control'", { exitCode: WRONG_USAGE });
    }
    if (control === true) {
      const { runControlDemo } = await import('./demo/control-demo.js');
      const { controlScreen, controlTables } = await import('./demo/control-screen.js');
      const screen = controlScreen();
      const report = await runControlDemo(hold, screen.show).finally(screen.stop);
      print(json, report, controlTables);
      if (Object.keys(report.errors).length > 0) process.exitCode = FAILED;
      return;
    }
    const { runDemo } = await import('./demo/demo.js');
    const { demoTables } = await import('./demo/demo-tables.js');
    const progress = await progressOf('requests');
    const report = await runDemo(progress.update).finally(progress.stop);
    print(json, report, demoTables);
  });

program
  .command('inspect')
  .description('Show the inputs and outputs of a model, and whether its requests can be batched.')
  .argument('<model>', 'an ONNX or ORT file: its path or file: URL', parsePath)
  .option('--json', 'print one JSON object instead of tables')
  .option(...TIMEOUT)
  .exitOverride()
  .action(async (path: string, { json, timeout }: { json?: boolean; timeout?: number }) => {
    const { inModelProcess } = await import('./children/model-process.js');
    const { inspectTables } = await import('./inspect.js');
    const report = await inModelProcess(
      'inspect',
      { path },
      { name: quoted(path), limits: { timeoutSeconds: timeout } },
    );
    print(json, report, inspectTables);
  });

program
  .command('bench')
  .description('Measure a model with several numbers of replicas, threads and concurrent callers.')
  .argument('<model>', 'an ONNX or ORT file: its path or file: URL', parsePath)
  .option('--input <name=dims>', 'shape of an input, for example image=1x3x224x224; can be repeated', addInputShape)
  .option(
    '--callers <list>',
    'numbers of concurrent callers to measure',
    integersUpTo(MAX_CALLERS),
    [1, 4, 16, 64, 256],
  )
  .option('--replicas <list>', 'numbers of replicas to measure', integersUpTo(MAX_REPLICAS), [
    ...new Set([1, availableParallelism()]),
  ])
  .option(
    '--threads <list>',
    'numbers of threads of a session to measure, for example auto,1,2; auto: infermux chooses (default: auto, 1, and cores / replicas)',
    parseThreads,
  )
  .option('--seconds <seconds>', 'length of each measurement; use 3 or more on a busy machine', parseSeconds, 0.5)
  .option('--svg <file>', 'also write a bar chart', parseWritableFile)
  .option(...TIMEOUT)
  .option('--json', 'print one JSON object instead of a table')
  .exitOverride()
  .action(async (path: string, { input: shapes = new Map(), svg, json, timeout, ...settings }: BenchFlags) => {
    const { inModelProcess } = await import('./children/model-process.js');
    const { benchChart, benchTable } = await import('./bench/bench-table.js');
    const progress = await progressOf('measurements');
    const report = await inModelProcess(
      'bench',
      { path, shapes, ...settings },
      { name: quoted(path), limits: { timeoutSeconds: timeout }, progress: progress.update },
    ).finally(progress.stop);
    // Before anything is printed: the reader of the output may go away, and then the process ends.
    if (svg !== undefined) replaceFile(svg, benchChart(report));
    print(json, report, benchTable);
  });

const serving = program
  .command('serve')
  .description('Serve models over the Open Inference Protocol, by REST and gRPC.')
  .argument(
    '[models]',
    'a directory of models, also in the layout of Triton or KServe (default: the models of the package)',
    parsePath,
  )
  .addHelpText('after', '\nFlags override environment variables (env), and these override the file of --config.')
  .exitOverride()
  .action(async (directory: string | undefined, flags: ServeFlags) => {
    const { serve } = await import('./serve/serve.js');
    const models = directory ?? process.env['INFERMUX_MODELS'];
    const run = () => serve(models === undefined ? flags : { ...flags, models });
    await (flags.nats === undefined ? run() : endingSoon(run));
  });
withoutRefusals(process.env);
for (const option of SERVE_OPTIONS) serving.addOption(option);

program
  .command('doctor')
  .description(
    'Check whether infermux works on this machine, and show what to change. The exit code is 1 if it does not.',
  )
  .option('--json', 'print one JSON object instead of lines')
  .exitOverride()
  .action(async ({ json }: { json?: boolean }) => {
    const { doctorLines, examine } = await import('./doctor/doctor.js');
    const progress = await progressOf('execution providers');
    const report = await examine(progress.update).finally(progress.stop);
    print(json, report, doctorLines);
    if (!report.isWell) process.exitCode = FAILED;
  });

program
  .command('top')
  .description('Show the replicas, models, latency and errors of a running server, updated every second.')
  .addOption(new Option('--url <url>', 'address of the server').env('INFERMUX_URL').default('http://127.0.0.1:8000'))
  .option('--api-keys <file>', 'a file whose first line is a key of the server', parsePath)
  .option('--once', 'show one second, and exit')
  .option('--json', 'print one line of JSON for each second')
  .exitOverride()
  .action(async (flags: TopFlags) => {
    const { top } = await import('./top/top.js');
    await top(flags);
  });

addClusterCommands(program);
addJobCommands(program);

addModelCommands(program);
nameHelp(program, program.name());

/** Errors of usage end with the command that helps. */
function nameHelp(command: Command, name: string): void {
  for (const each of command.commands) nameHelp(each, `${name} ${each.name()}`);
  command.showHelpAfterError(`(${name} --help lists its arguments and options)`);
}

interface DemoFlags {
  readonly json?: boolean;
  readonly control?: boolean;
  readonly hold?: number;
}

interface BenchFlags {
  readonly input?: InputShapes;
  readonly callers: number[];
  readonly replicas: number[];
  readonly threads?: Threads[];
  readonly seconds: number;
  readonly svg?: string;
  readonly timeout?: number;
  readonly json?: boolean;
}

// The reader of the output may stop reading. That is not a failure of the command.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') process.stderr.write(`infermux: ${messageOf(error)}\n`);
  process.exit(error.code === 'EPIPE' ? 0 : FAILED);
});

try {
  await program.parseAsync();
} catch (error) {
  // commander has already printed the error.
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : WRONG_USAGE;
  else {
    process.stderr.write(`infermux: ${messageOf(error)}\n`);
    const { InfermuxError } = await import('../index.js');
    process.exitCode = error instanceof InfermuxError && error.code === 'INVALID_ARGUMENT' ? WRONG_USAGE : FAILED;
  }
}
