import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { readManifestSession } from '../../../dist/models/sources/manifest-session.js';

const read = (session: object, cores?: number) => readManifestSession('m: session', { ...session }, cores);
const provider = (options: object) => ({ executionProviders: [{ name: 'cpu', ...options }] });

describe('the session options of a model.json', () => {
  it('are kept where they harm no one', () => {
    const session = {
      executionProviders: [{ name: 'cuda', deviceId: 1 }, { name: 'coreml', useCPUOnly: true }, 'cpu'],
      graphOptimizationLevel: 'basic',
      executionMode: 'parallel',
      enableCpuMemArena: false,
      enableMemPattern: true,
      extra: {
        session: { intra_op: { allow_spinning: '0' }, 'inter_op.allow_spinning': '0', dynamic_block_base: '4' },
        'optimization.disable_specified_optimizers': 'MatMulAddFusion;CastElimination',
      },
    };
    expect(read(session)).toEqual(session);
  });

  it('ask for as many threads as there are cores at most', () => {
    const most = { intraOpNumThreads: 1_024, interOpNumThreads: 64 };
    expect(read(most, 8)).toEqual({ intraOpNumThreads: 8, interOpNumThreads: 8 });
    expect(read({ intraOpNumThreads: 0, interOpNumThreads: 2 }, 8)).toEqual({
      ...{ intraOpNumThreads: 0, interOpNumThreads: 2 },
    });
    expect(() => read({ intraOpNumThreads: 1_025 }, 8)).toThrow('an integer from 0 to 1024, or "auto", got 1025');
  });

  it.each([
    [{ enableProfiling: true }, '"enableProfiling"'],
    [{ profileFilePrefix: '/tmp/x' }, '"profileFilePrefix"'],
    [{ logVerbosityLevel: 9 }, '"logVerbosityLevel"'],
    [{ externalData: [] }, '"externalData"'],
    [{ freeDimensionOverrides: { N: 1 } }, '"freeDimensionOverrides"'],
    [{ preferredOutputLocation: 'gpu-buffer' }, '"preferredOutputLocation"'],
    [JSON.parse('{ "__proto__": { "logId": "x" } }'), '"__proto__"'],
    [provider({ backendPath: '/tmp/x.so' }), '"backendPath" of a provider; it may set only name, deviceId'],
    [{ extra: { session: { log_id: 'x' } } }, '"session.log_id"'],
    [{ extra: { 'session.enable_profiling': '/tmp/x' } }, '"session.enable_profiling"'],
    [{ extra: { 'session.intra_op_num_threads': '1000' } }, '"session.intra_op_num_threads"'],
    [{ extra: { ep: { context_file_path: '/tmp/x' } } }, '"ep.context_file_path"'],
    [{ extra: { 'ep.webgpuexecutionprovider.dawnProcTable': '1' } }, '"ep.webgpuexecutionprovider.dawnProcTable"'],
    [{ extra: JSON.parse('{ "__proto__": { "session": { "log_id": "x" } } }') }, '"__proto__.session.log_id"'],
  ])('%j is refused by name, and the message says who may set it', (session, name) => {
    expect(() => read(session)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }));
    expect(() => read(session)).toThrow(`a model.json must not set ${name}`);
    expect(() => read(session)).toThrow('All other options belong to the program: give them as "session" to');
  });

  it.each([
    [{ executionMode: 'both' }, 'session.executionMode must be one of'],
    [{ enableMemPattern: 1 }, 'session.enableMemPattern must be true or false'],
    [{ executionProviders: Array(17).fill('cpu') }, 'session.executionProviders must be an array of at most 16'],
    [provider({ deviceId: -1 }), 'session.executionProviders.deviceId must be an integer from 0 to 255, got -1'],
    [provider({ deviceId: '0\n' }), 'deviceId must be an integer'],
    [{ extra: { session: { disable_prepacking: 'yes' } } }, 'extra.session.disable_prepacking must be one of "0", "1"'],
    [{ extra: { 'session.dynamic_block_base': '4\n' } }, 'extra.session.dynamic_block_base must be digits'],
  ])('%j has a value of the wrong form', (session, message) => {
    expect(() => read(session)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }));
    expect(() => read(session)).toThrow(message);
  });

  it('of any names, at any depth of "extra", never pass beside the list', () => {
    const names = fc.constantFrom(
      'session',
      'log_id',
      'intra_op',
      'allow_spinning',
      'intra_op.allow_spinning',
      '',
      '__proto__',
    );
    const { tree } = fc.letrec<{ tree: object }>((tie) => ({
      tree: fc
        .array(fc.tuple(names, fc.oneof({ maxDepth: 4 }, fc.constant('0'), tie('tree'))), { maxLength: 3 })
        .map((entries) => Object.fromEntries(entries)),
    }));
    const leavesOf = (value: object, before = ''): string[] =>
      Object.entries(value).flatMap(([key, part]) =>
        typeof part === 'object' ? leavesOf(part, `${before}${key}.`) : [`${before}${key}`],
      );
    fc.assert(
      fc.property(tree, (extra) => {
        const isListed = leavesOf(extra).every((name) => name === 'session.intra_op.allow_spinning');
        if (isListed) expect(read({ extra })).toEqual({ extra });
        else expect(() => read({ extra })).toThrow('a model.json must not set');
      }),
    );
  });
});
