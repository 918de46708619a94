import { describe, expect, it } from 'vitest';
import { createEngine, readTritonConfig } from '../../dist/index.js';
import { parseTextFormat } from '../../dist/models/sources/triton/text-format.js';
import { directory } from '../support/directories.js';
import { scaleModel } from '../support/onnx-models.js';

const CONFIG = `
# A comment.
name: "times-2"
platform: 'onnxruntime_onnx'
max_batch_size: 8
input [
  { name: "x" data_type: TYPE_FP32 dims: [ 4 ] },
  { name: "z" data_type: TYPE_INT64 dims: [ 1, 2 ] reshape { shape: [ ] } }
]
output [{ name: "y", data_type: TYPE_FP32, dims: 4; label_filename: "labels.txt" }]
instance_group [ { count: 2 kind: KIND_CPU } ]
dynamic_batching { preferred_batch_size: [ 4, 8 ] max_queue_delay_microseconds: 1500 }
version_policy: { specific { versions: [1, 3] } }
parameters { key: "intra_op_thread_count" value { string_value: "2" } }
parameters { key: "execution_mode" value { string_value: "1" } }
model_warmup [{ name: "w" batch_size: 2 inputs { key: "x" value: { data_type: TYPE_FP32 dims: 4 zero_data: true } } }]
response_cache { enable: true }
`;

describe('a configuration of Triton', () => {
  it('says what has a counterpart, and what has none', () => {
    const { manifest, ignored } = readTritonConfig(CONFIG, 'config.pbtxt');
    expect(manifest).toStrictEqual({
      batching: { maxSize: 8, maxWaitMs: 1.5 },
      versions: [1, 3],
      session: { intraOpNumThreads: expect.any(Number) },
      warmUp: [{ x: { dims: [2, 4], type: 'float32' } }],
    });
    expect(ignored).toStrictEqual([
      'input "z": reshape',
      'output "y": label_filename',
      'dynamic_batching: preferred_batch_size',
      'parameters "execution_mode"',
      'response_cache',
    ]);
  });

  it('says that it is of another kind of model', () => {
    expect(readTritonConfig('backend: "python"', 'config.pbtxt').ignored).toStrictEqual([
      'backend "python" (models are of ONNX)',
    ]);
    expect(readTritonConfig('platform: "onnxruntime_onnx"', 'config.pbtxt').ignored).toStrictEqual([]);
  });

  it('may be JSON, with a value or a list of values', () => {
    const config = {
      name: 'm',
      max_batch_size: 4,
      version_policy: { all: {} },
      dynamic_batching: {},
      parameters: { inter_op_thread_count: { string_value: '1' } },
      instance_group: [{ kind: 'KIND_GPU' }],
    };
    const { manifest, ignored } = readTritonConfig(JSON.stringify(config), 'config');
    expect(manifest).toStrictEqual({ versions: 'all', batching: { maxSize: 4 }, session: { interOpNumThreads: 1 } });
    expect(ignored).toStrictEqual(["instance_group of KIND_GPU (name executionProviders in the engine's session)"]);
  });

  it.each<[string, object, readonly string[]]>([
    ['max_batch_size: 0', { batching: false }, []],
    ['max_batch_size: 2', { batching: { maxSize: 2 } }, []],
    ['dynamic_batching {}', {}, ['dynamic_batching (it needs a max_batch_size of 1 or more)']],
    [
      'max_batch_size: 0 dynamic_batching {}',
      { batching: false },
      ['dynamic_batching (it needs a max_batch_size of 1 or more)'],
    ],
    [
      'model_warmup { count: 2 iterations: 3 inputs { key: "x" value { dims: 1 random_data: true odd: 1 } } }',
      { warmUp: [{ x: { dims: [1] } }, { x: { dims: [1] } }] },
      ['model_warmup: iterations', 'model_warmup: random_data (zeros are used)', 'model_warmup: odd'],
    ],
    [
      'model_warmup { count: 1000000000 inputs { key: "x" value { dims: 1 } } } model_warmup { inputs { key: "x" value { dims: 2 } } }',
      { warmUp: Array(100).fill({ x: { dims: [1] } }) },
      ['model_warmup: more than 100 runs'],
    ],
    ['model_warmup { count: -1 inputs { key: "x" value { dims: 1 } } }', { warmUp: [{ x: { dims: [1] } }] }, []],
  ])('reads %s', (text, manifest, ignored) => {
    expect(readTritonConfig(text, 'c')).toStrictEqual({ manifest, ignored });
  });

  it('says how many versions it wants, of which one is served', () => {
    const of = (text: string) => readTritonConfig(text, 'c');
    expect(of('version_policy { latest { num_versions: 1 } }')).toStrictEqual({
      manifest: { versions: 'latest' },
      ignored: [],
    });
    expect(of('version_policy { latest { num_versions: 3 } }').ignored).toStrictEqual([
      'version_policy: the 3 latest (only the latest is served)',
    ]);
  });

  it.each([
    ['name "x"', 'expected a value in line 1, got "\\"x\\""'],
    ['name: "x', 'expected a field in line 1'],
    ['a {\n b: 1', 'expected the name of a field or } in line 2, got the end'],
    ['}', 'expected the name of a field in line 1, got "}"'],
    ['a: [1 2]', 'expected a comma or ] in line 1'],
    ['a: ]', 'expected a value in line 1'],
    ['\n\n5: 1', 'expected the name of a field in line 3'],
    ['a {'.repeat(100), 'expected less nesting'],
    ['{"a":', 'is not JSON'],
    ['max_batch_size: 100000', 'batching'],
    ['version_policy { specific { versions: -1 } }', 'versions'],
  ])('is refused as %j', (text, message) => {
    expect(() => readTritonConfig(text, 'config.pbtxt')).toThrow(message);
  });

  it('has texts in several pieces, and with escapes', () => {
    expect({ ...parseTextFormat('a: "x\\n" \'y\' b: -1.5 c: TRUE', 'c') }).toStrictEqual({
      a: ['x\ny'],
      b: [-1.5],
      c: ['TRUE'],
    });
  });
});

describe("a repository of Triton's", () => {
  it('is served as it is, and one warning names what is ignored', async () => {
    const warnings: unknown[] = [];
    const nothing = () => undefined;
    const logger = {
      debug: nothing,
      info: nothing,
      error: nothing,
      warn: (...given: unknown[]) => warnings.push(given),
    };
    const models = directory({
      'times-2/config.pbtxt': CONFIG.replace('inputs { key', 'inputs { key').replace(/input \[[\s\S]*?\]\n/, ''),
      'times-2/1/model.onnx': scaleModel(2),
      'times-2/2/model.onnx': scaleModel(3),
      'times-2/3/model.onnx': scaleModel(4),
      'plain/1/model.onnx': scaleModel(5),
      'plain/config.pbtxt': 'backend: "onnxruntime"',
      'py/1/model.py': 'pass',
      'py/config.pbtxt': 'backend: "python"',
    });
    const engine = await createEngine({ models, replicas: 1, logger });
    try {
      expect(engine.models.list().map(({ id, version }) => `${id}@${version}`)).toStrictEqual([
        'plain@1',
        'times-2@1',
        'times-2@3',
      ]);
      const x = { dims: [1, 4], data: Float32Array.of(1, 2, 3, 4) };
      expect((await engine.run('times-2', { x })).y?.data).toStrictEqual(Float32Array.of(4, 8, 12, 16));
      expect((await engine.run('times-2@1', { x })).y?.data).toStrictEqual(Float32Array.of(2, 4, 6, 8));
      await engine.models.sync();
      const about = warnings.filter((warning) => JSON.stringify(warning).includes('config.pbtxt'));
      expect(about).toStrictEqual([
        [
          {
            settings: {
              'py/config.pbtxt': 'without a counterpart: backend "python" (models are of ONNX)',
              'times-2/config.pbtxt':
                'without a counterpart: output "y": label_filename; dynamic_batching: preferred_batch_size; parameters "execution_mode"; response_cache',
            },
          },
          'settings of config.pbtxt without a counterpart',
        ],
      ]);
    } finally {
      await engine.close();
    }
  });

  it('names the file of a configuration that cannot be read', async () => {
    const models = directory({ 'm/1/model.onnx': scaleModel(2), 'm/config.pbtxt': 'name "x"' });
    const engine = await createEngine({ models, replicas: 1 });
    expect(engine.models.get('m').problem).toContain('config.pbtxt: expected a value in line 1');
    await engine.close();
  });
});
