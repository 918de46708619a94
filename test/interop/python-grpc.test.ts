import { execFile, execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { directory } from '../support/directories.js';
import { type Served, startServed } from '../support/engines/served-engine.js';

/** Definitions that others have written, beside the project or where the variable says. */
const DEFINITIONS =
  process.env['INFERMUX_SHARED_OIP'] ?? fileURLToPath(new URL('../../../shared/oip', import.meta.url));
/** Debian's own Python has Debian's packages. */
const PYTHON = '/usr/bin/python3';
const PROGRAM = fileURLToPath(new URL('python-client.py', import.meta.url));

const hasPackages = (() => {
  try {
    execFileSync(PYTHON, ['-c', 'import grpc, grpc_tools'], { stdio: 'pipe' });
    return true;
  } catch {
    return false;
  }
})();
const why = [
  ...(existsSync(DEFINITIONS) ? [] : ['the definitions of others are not here']),
  ...(hasPackages ? [] : ["Debian's python3-grpcio and python3-grpc-tools are not installed"]),
];

describe.skipIf(why.length > 0)(
  `a client in Python, made from definitions of others${why.length === 0 ? '' : ` (${why.join('; ')})`}`,
  () => {
    let served: Served;
    const stubs = directory();
    beforeAll(async () => {
      const files = ['triton_grpc_service.proto', 'model_config.proto', 'health.proto'];
      execFileSync(
        PYTHON,
        [
          '-m',
          'grpc_tools.protoc',
          `-I${DEFINITIONS}`,
          `--python_out=${stubs}`,
          `--grpc_python_out=${stubs}`,
          ...files,
        ],
        { stdio: 'pipe' },
      );
      served = await startServed();
    });
    afterAll(() => served.close());

    const run = async (part: string) => {
      const env = { ...process.env, PYTHONPATH: stubs, GRPC_VERBOSITY: 'NONE' };
      const { stdout } = await promisify(execFile)(PYTHON, [PROGRAM, served.grpc, part], { env, timeout: 25_000 });
      return JSON.parse(stdout);
    };

    it('asks what there is', async () => {
      expect(await run('metadata')).toStrictEqual({
        live: true,
        ready: true,
        model_ready: true,
        unknown_ready: 'NOT_FOUND',
        name: 'infermux',
        inputs: [['x', 'FP32', [-1, 4]]],
        outputs: [['y', 'FP32', [-1, 4]]],
        config: ['times-2', 'onnxruntime', 0, [['x', 11, [-1, 4]]]],
        index: true,
        health: 1,
        health_unknown: 'NOT_FOUND',
      });
    });

    it('runs models with raw contents, typed contents, and in streams', async () => {
      expect(await run('infer')).toStrictEqual({
        raw: [2, 4, 6, 8],
        raw_id: 'mine',
        typed: [2, 4, 6, 8],
        stream: ['0', '1', '2', '3', '4'],
        stream_error: true,
        parameters: [2, 4, 6, 8],
        statistics: true,
      });
    });

    it('carries every data type', async () => {
      expect(await run('types')).toStrictEqual({ same: true, count: 13 });
    });

    it('has status codes, deadlines and cancels', async () => {
      expect(await run('errors')).toStrictEqual({
        unknown: 'NOT_FOUND',
        shape: 'INVALID_ARGUMENT',
        deadline: 'DEADLINE_EXCEEDED',
        cancelled: 'CANCELLED',
        shared_memory: 'UNIMPLEMENTED',
        load_unknown: 'NOT_FOUND',
      });
    });
  },
);
