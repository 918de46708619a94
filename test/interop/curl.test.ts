import { execFile } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { directory } from '../support/directories.js';
import { type Served, startServed } from '../support/engines/served-engine.js';

const run = promisify(execFile);
const files = directory();

let served: Served;
beforeAll(async () => {
  served = await startServed();
});
afterAll(() => served.close());

/** What curl writes: the status and, of JSON, the body. */
async function curl(...args: string[]) {
  const { stdout } = await run('curl', ['-s', '-w', '\n%{http_code}', ...args], { maxBuffer: 1e8 });
  const at = stdout.lastIndexOf('\n');
  return { status: Number(stdout.slice(at + 1)), body: stdout.slice(0, at) };
}

describe('curl', () => {
  it('runs a model with a body in its own content type, and in others', async () => {
    const body = '{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[[1,2,3,4]]}]}';
    for (const type of ['application/x-www-form-urlencoded', 'application/json', '']) {
      const { status, body: answer } = await curl(
        '-H',
        `content-type: ${type}`,
        '-d',
        body,
        `${served.http}/v2/models/times-2/infer`,
      );
      expect(status).toBe(200);
      expect(JSON.parse(answer).outputs[0].data).toStrictEqual([2, 4, 6, 8]);
    }
  });

  it('runs every data type as JSON', async () => {
    const model = JSON.parse((await curl(`${served.http}/v2/models/identity`)).body);
    const values: Record<string, string> = { BOOL: '[true,false]', BYTES: '["a","\\u00e9"]', FP16: '' };
    const rest = (datatype: string) =>
      datatype === 'FP16' ? '"parameters":{"binary_data_size":4}' : `"data":${values[datatype] ?? '[0,1]'}`;
    const inputs = model.inputs.map(
      ({ name, datatype }: { name: string; datatype: string }) =>
        `{"name":"${name}","shape":[1,2],"datatype":"${datatype}",${rest(datatype)}}`,
    );
    const outputs = model.inputs.map(({ name, datatype }: { name: string; datatype: string }) => ({
      name: name.replace('in', 'out'),
      parameters: { binary_data: datatype === 'FP16' },
    }));
    const json = Buffer.from(`{"inputs":[${inputs}],"outputs":${JSON.stringify(outputs)}}`);
    const half = Buffer.from([0x00, 0x3c, 0x00, 0xc0]);
    writeFileSync(join(files, 'request'), Buffer.concat([json, half]));
    const { status } = await curl(
      '-o',
      join(files, 'answer'),
      '-D',
      join(files, 'head'),
      '-H',
      `Inference-Header-Content-Length: ${json.length}`,
      '--data-binary',
      `@${join(files, 'request')}`,
      `${served.http}/v2/models/identity/infer`,
    );
    expect(status).toBe(200);
    const length = Number(
      /^inference-header-content-length: (\d+)/im.exec(readFileSync(join(files, 'head'), 'utf8'))?.[1],
    );
    const answer = readFileSync(join(files, 'answer'));
    expect(answer.subarray(length)).toStrictEqual(half);
    const data = JSON.parse(answer.subarray(0, length).toString()).outputs.map(
      ({ datatype, data: own }: { datatype: string; data: unknown }) => [datatype, own],
    );
    for (const [datatype, own] of data) {
      const expected = { BOOL: [true, false], BYTES: ['a', 'é'], FP16: undefined }[datatype as 'BOOL'];
      expect(own, datatype).toStrictEqual(datatype === 'FP16' ? undefined : (expected ?? [0, 1]));
    }
  });

  it('sends a large binary body, after it has asked whether it may', async () => {
    const json = Buffer.from(
      '{"inputs":[{"name":"x","shape":[1,1000000],"datatype":"FP32","parameters":{"binary_data_size":4000000}}],"parameters":{"binary_data_output":true}}',
    );
    const data = Buffer.from(new Float32Array(1_000_000).fill(1.5).buffer);
    writeFileSync(join(files, 'large'), Buffer.concat([json, data]));
    const send = (...more: string[]) =>
      curl(
        '-o',
        join(files, 'answer'),
        '-D',
        join(files, 'head'),
        '-H',
        'Expect: 100-continue',
        '-H',
        `Inference-Header-Content-Length: ${json.length}`,
        '--data-binary',
        `@${join(files, 'large')}`,
        ...more,
      );
    expect((await send(`${served.http}/v2/models/huge/infer`)).status).toBe(200);
    const length = Number(
      /^inference-header-content-length: (\d+)/im.exec(readFileSync(join(files, 'head'), 'utf8'))?.[1],
    );
    const expected = Buffer.from(new Float32Array(1_000_000).fill(3).buffer);
    expect(expected.equals(readFileSync(join(files, 'answer')).subarray(length))).toBe(true);
    // Refused before the body is sent.
    expect((await send(`${served.http}/v2/nothing`)).status).toBe(404);
    expect(readFileSync(join(files, 'head'), 'utf8')).not.toContain('100 Continue');
  });

  it('sends a body in chunks, compressed or not', async () => {
    const body = '{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[1,2,3,4]}]}';
    const chunked = ['-H', 'Transfer-Encoding: chunked'];
    expect((await curl(...chunked, '-d', body, `${served.http}/v2/models/times-2/infer`)).status).toBe(200);
    await run('sh', ['-c', `printf '%s' '${body}' | gzip > ${join(files, 'body.gz')}`]);
    const { status, body: answer } = await curl(
      ...chunked,
      '--compressed',
      '-H',
      'Content-Encoding: gzip',
      '--data-binary',
      `@${join(files, 'body.gz')}`,
      `${served.http}/v2/models/times-2/infer`,
    );
    expect({ status, data: JSON.parse(answer).outputs[0].data }).toStrictEqual({ status: 200, data: [2, 4, 6, 8] });
  });
});
