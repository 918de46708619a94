import {
  chmodSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ModelDeployer } from '../../../dist/models/deployer/model-deployer.js';
import { directory, writeFiles } from '../../support/directories.js';

const MODEL = { 'model.onnx': Uint8Array.of(1, 2, 3) };

function deployerOf(files: Readonly<Record<string, string>> = {}) {
  const root = directory(files);
  return { root, deployer: new ModelDeployer(root) };
}

/** What a look at the directory shows. */
const visible = (root: string) => readdirSync(root).filter((name) => !name.startsWith('.'));

describe('deploy', () => {
  it('writes the files of a model into a folder of its own', async () => {
    const { root, deployer } = deployerOf();
    const files = { ...MODEL, 'model.json': '{ "licence": "MIT" }', 'data/weights.bin': Uint8Array.of(9) };
    expect(await deployer.deploy('a', files)).toBe('a');
    expect(visible(root)).toEqual(['a']);
    expect(new Uint8Array(readFileSync(join(root, 'a', 'model.onnx')))).toEqual(MODEL['model.onnx']);
    expect(readFileSync(join(root, 'a', 'model.json'), 'utf8')).toBe('{ "licence": "MIT" }');
    expect(existsSync(join(root, 'a', 'data', 'weights.bin'))).toBe(true);
  });

  it('writes one more version of a model, or several at once', async () => {
    const { root, deployer } = deployerOf({ 'a/1/model.onnx': '' });
    await deployer.deploy('a@2', MODEL);
    await deployer.deploy('b', { '1/model.onnx': '', '3/model.ort': '' });
    expect(visible(join(root, 'a'))).toEqual(['1', '2']);
    expect(visible(join(root, 'b'))).toEqual(['1', '3']);
  });

  it('writes what came with the call, whatever becomes of the array meanwhile', async () => {
    const { root, deployer } = deployerOf();
    const bytes = new Uint8Array(1_000_000).fill(1);
    const deployed = deployer.deploy('a', { 'model.onnx': bytes });
    bytes.fill(2);
    await deployed;
    expect(readFileSync(join(root, 'a', 'model.onnx')).every((byte) => byte === 1)).toBe(true);
  });

  it.each([
    ['', 'cannot be empty'],
    ['  ', 'must not be blank'],
    [7, 'must be a string'],
    ['/etc/passwd', 'must not hold any of /'],
    ['..', 'must not lead out of its folder'],
    ['../a', 'must not begin with "."'],
    ['a/../../b', 'must not hold any of /'],
    ['a\\b', 'must not hold any of /'],
    ['C:', 'must not hold any of /'],
    ['a\0b', 'control characters'],
    ['a\nb', 'control characters'],
    ['.hidden', 'must not begin with "."'],
    ['CON', 'reserved on Windows'],
    ['nul.onnx', 'reserved on Windows'],
    ['a.', 'must not end with "."'],
    ['x'.repeat(256), 'longer than 255 bytes'],
    ['\ud800', 'well-formed'],
    ['a@0', 'a positive integer'],
    ['a@01', 'a positive integer'],
    ['a@9007199254740992', 'at most 9007199254740991'],
    ['a@1@2', 'a positive integer'],
    ['@1', 'must not be blank'],
  ])('refuses the id %j', async (id, message) => {
    const { root, deployer } = deployerOf();
    const refusal = { code: 'INVALID_ARGUMENT', message: expect.stringContaining(message) };
    await expect(deployer.deploy(id, MODEL)).rejects.toMatchObject(refusal);
    await expect(deployer.undeploy(id)).rejects.toMatchObject(refusal);
    expect(readdirSync(root)).toEqual([]);
  });

  it.each([
    [{ ...MODEL, '../evil': '' }, 'must not lead out of its folder'],
    [{ ...MODEL, '/evil': '' }, 'must not be blank'],
    [{ ...MODEL, 'a//b': '' }, 'must not be blank'],
    [{ ...MODEL, 'a\\..\\b': '' }, 'must not hold any of'],
    [{ ...MODEL, 'D:evil': '' }, 'must not hold any of'],
    [{ ...MODEL, 'a\0': '' }, 'control characters'],
    [{ ...MODEL, 'aux.txt': '' }, 'reserved on Windows'],
    [{ ...MODEL, 'A.bin': '', 'a.bin': '' }, 'differ in case only'],
    [{ ...MODEL, a: '', 'a/b': '' }, 'cannot be a file and a folder'],
    [{ ...MODEL, extra: 7 }, 'must be a Uint8Array or an ArrayBuffer, or a string, got 7'],
    [{ 'weights.bin': '' }, 'must hold a model.onnx or model.ort'],
    [{ ...MODEL, 'model.json': '{' }, 'model.json is not JSON'],
    [{ '1/model.onnx': '', '1/model.json': '{ "pinned": 1 }' }, '1/model.json: pinned must be true or false'],
    [{ ...MODEL, 'model.json': '{ "session": { "logSeverityLevel": 0 } }' }, 'must not set "logSeverityLevel"'],
    [{ '0/model.onnx': '' }, 'must hold a model.onnx'],
    [{}, 'got none'],
    [[], 'must be an object of bytes'],
    [null, 'must be an object of bytes'],
  ])('refuses the files %j', async (files, message) => {
    const { root, deployer } = deployerOf();
    const refusal = { code: 'INVALID_ARGUMENT', message: expect.stringContaining(message) };
    await expect(deployer.deploy('a', files)).rejects.toMatchObject(refusal);
    expect(readdirSync(root)).toEqual([]);
  });

  it('refuses a manifest that is too large', async () => {
    const { root, deployer } = deployerOf();
    const files = { '1/model.onnx': '', '1/model.json': new Uint8Array(2 ** 20 + 1) };
    await expect(deployer.deploy('a', files)).rejects.toThrow('1/model.json must have at most 1048576 bytes');
    expect(readdirSync(root)).toEqual([]);
  });

  it.each(['a.onnx', 'a.ort', 'a/model.onnx', 'a/readme.txt'])('refuses a model where there is %s', async (file) => {
    const { root, deployer } = deployerOf({ [file]: 'old' });
    await expect(deployer.deploy('a', MODEL)).rejects.toMatchObject({ code: 'MODEL_ALREADY_EXISTS' });
    expect(readFileSync(join(root, file), 'utf8')).toBe('old');
  });

  it('refuses a version that is there, and versions beside a model that stands for the whole folder', async () => {
    const { deployer } = deployerOf({ 'a/1/model.onnx': '', 'b/model.onnx': '', 'c.onnx': '' });
    await expect(deployer.deploy('a@1', MODEL)).rejects.toMatchObject({ code: 'MODEL_ALREADY_EXISTS' });
    await expect(deployer.deploy('b@2', MODEL)).rejects.toMatchObject({ code: 'FAILED_PRECONDITION' });
    await expect(deployer.deploy('c@2', MODEL)).rejects.toMatchObject({ code: 'MODEL_ALREADY_EXISTS' });
  });

  it('lets only one of two win that deploy the same model at once', async () => {
    const { root } = deployerOf();
    const both = await Promise.allSettled(
      ['one', 'two'].map((text) => new ModelDeployer(root).deploy('a', { 'model.onnx': text })),
    );
    const lost = both.filter(({ status }) => status === 'rejected');
    expect(lost).toMatchObject([{ reason: { code: 'MODEL_ALREADY_EXISTS' } }]);
    expect(readdirSync(root)).toEqual(['a']);
  });

  it('leaves no empty folder behind, whether it succeeds or not', async () => {
    const { root, deployer } = deployerOf({ 'b/2': 'a file in the place of a folder' });
    await deployer.deploy('a@1', MODEL);
    await expect(deployer.deploy('b@2', MODEL)).rejects.toMatchObject({ code: 'MODEL_ALREADY_EXISTS' });
    await deployer.deploy('c', MODEL);
    await deployer.undeploy('c');
    expect(readdirSync(root)).toEqual(['a', 'b']);
  });

  it('works while others deploy, and fail to, beside it', async () => {
    const { root } = deployerOf();
    const versions = Array.from({ length: 20 }, (_, index) => index + 1);
    const all = await Promise.allSettled(
      versions.flatMap((version) =>
        ['one', 'other'].map((text) => new ModelDeployer(root).deploy(`a@${version}`, { 'model.onnx': text })),
      ),
    );
    const reasons = all.filter((result) => result.status === 'rejected').map(({ reason }) => reason.code);
    expect(reasons).toEqual(versions.map(() => 'MODEL_ALREADY_EXISTS'));
    expect([readdirSync(root), readdirSync(join(root, 'a')).length]).toEqual([['a'], 20]);
  });

  it('of one version never falls to an undeploy of the last other one', async () => {
    const { root, deployer } = deployerOf();
    for (let round = 0; round < 50; round += 1) {
      await deployer.deploy('a@1', MODEL);
      const [undeployed, deployed] = await Promise.allSettled([
        deployer.undeploy('a@1'),
        deployer.deploy('a@2', MODEL),
      ]);
      expect([undeployed.status, deployed.status]).toEqual(['fulfilled', 'fulfilled']);
      expect(readdirSync(join(root, 'a'))).toEqual(['2']);
      await deployer.undeploy('a@2');
      expect(readdirSync(root)).toEqual([]);
    }
  });

  it('and undeploy never fail because others tidy up', async () => {
    const { root } = deployerOf();
    const [one, other] = [new ModelDeployer(root), new ModelDeployer(root)];
    const rounds = async (deployer: ModelDeployer, id: string) => {
      for (let round = 0; round < 40; round += 1) {
        await deployer.deploy(`${id}@1`, MODEL);
        await deployer.undeploy(`${id}@1`);
      }
    };
    await Promise.all([rounds(one, 'a'), rounds(one, 'b'), rounds(other, 'c'), rounds(other, 'd')]);
    expect(readdirSync(root)).toEqual([]);
  });

  it('refuses links that lead out of the directory, and touches nothing there', async () => {
    const outside = directory({ 'model.onnx': 'theirs' });
    const { root, deployer } = deployerOf();
    symlinkSync(outside, join(root, 'a'));
    symlinkSync('/nowhere/at/all', join(root, 'b'));
    const refusal = { code: 'INVALID_ARGUMENT', message: expect.stringContaining('leads out of') };
    await expect(deployer.deploy('a', MODEL)).rejects.toMatchObject(refusal);
    await expect(deployer.deploy('a@2', MODEL)).rejects.toMatchObject(refusal);
    await expect(deployer.deploy('b', MODEL)).rejects.toMatchObject(refusal);
    await expect(deployer.undeploy('a')).rejects.toMatchObject(refusal);
    expect(readdirSync(outside)).toEqual(['model.onnx']);
  });

  it('refuses to write into a staging folder that is a link', async () => {
    const outside = directory();
    const { root, deployer } = deployerOf();
    symlinkSync(outside, join(root, '.infermux-staging'));
    await expect(deployer.deploy('a', MODEL)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    expect(readdirSync(outside)).toEqual([]);
  });

  it('writes through no link within the directory, and into no other name of a file', async () => {
    const { root, deployer } = deployerOf({ 'b/1/model.onnx': 'old', 'c.onnx': 'old', 'd/notes.txt': '' });
    symlinkSync(join(root, 'b'), join(root, 'a'));
    linkSync(join(root, 'c.onnx'), join(root, 'e.onnx'));
    symlinkSync(join(root, 'c.onnx'), join(root, 'd', 'model.onnx'));
    for (const target of ['a', 'a@2', 'e', 'e@2', 'd']) {
      await expect(deployer.deploy(target, MODEL), target).rejects.toMatchObject({ code: 'MODEL_ALREADY_EXISTS' });
    }
    await deployer.undeploy('e');
    await deployer.undeploy('d');
    await expect(deployer.undeploy('a@1')).rejects.toMatchObject({
      code: 'FAILED_PRECONDITION',
      message: expect.stringContaining("is a link, and its versions are another model's"),
    });
    await deployer.undeploy('a');
    expect(visible(root)).toEqual(['b', 'c.onnx']);
    for (const path of [join('b', '1', 'model.onnx'), 'c.onnx'])
      expect(readFileSync(join(root, path), 'utf8')).toBe('old');
  });

  it.skipIf(process.platform === 'win32')('gives models the modes that the umask leaves', async () => {
    const { root, deployer } = deployerOf();
    const umask = process.umask(0o027);
    await deployer.deploy('a', MODEL).finally(() => process.umask(umask));
    const modes = ['a', 'a/model.onnx'].map((path) => statSync(join(root, path)).mode & 0o777);
    expect(modes).toEqual([0o750, 0o640]);
  });

  it.skipIf(process.getuid?.() === 0)('goes on beside what another user has left', async () => {
    const { root, deployer } = deployerOf({ '.infermux-staging/old/kept/file': '' });
    const old = join(root, '.infermux-staging', 'old');
    const long = new Date(Date.now() - 7_200_000);
    utimesSync(old, long, long);
    chmodSync(join(old, 'kept'), 0o500);
    await deployer.deploy('a', MODEL);
    chmodSync(join(old, 'kept'), 0o700);
    expect(visible(root)).toEqual(['a']);
  });

  it.skipIf(process.getuid?.() === 0)('fails for want of permission, and leaves nothing', async () => {
    const { root, deployer } = deployerOf();
    chmodSync(root, 0o500);
    await expect(deployer.deploy('a', MODEL)).rejects.toMatchObject({ code: 'FAILED_PRECONDITION' });
    chmodSync(root, 0o700);
    expect(readdirSync(root)).toEqual([]);
  });

  it.skipIf(process.platform !== 'linux')('fails where not even root may write', async () => {
    await expect(new ModelDeployer('/sys/kernel').deploy('a', MODEL)).rejects.toMatchObject({
      code: 'FAILED_PRECONDITION',
    });
  });

  it('fails where the directory is none, and leaves nothing', async () => {
    const { root } = deployerOf({ file: '' });
    const refusal = { code: 'FAILED_PRECONDITION', message: expect.stringContaining('cannot be changed') };
    await expect(new ModelDeployer(join(root, 'file')).deploy('a', MODEL)).rejects.toMatchObject(refusal);
    await expect(new ModelDeployer(join(root, 'none')).deploy('a', MODEL)).rejects.toMatchObject(refusal);
    expect(readdirSync(root)).toEqual(['file']);
  });
});

describe('undeploy', () => {
  it('removes a model in whatever layout it is, or one version', async () => {
    const { root, deployer } = deployerOf({
      'a.onnx': '',
      'b/model.onnx': '',
      'c/1/model.onnx': '',
      'c/2/model.onnx': '',
    });
    await deployer.undeploy('a');
    await deployer.undeploy('b');
    await deployer.undeploy('c@1');
    expect(visible(root)).toEqual(['c']);
    expect(visible(join(root, 'c'))).toEqual(['2']);
    await deployer.undeploy('c');
    expect(visible(root)).toEqual([]);
  });

  it('removes neither another model nor what is none', async () => {
    const { root, deployer } = deployerOf({
      'x/model.onnx': '',
      'x.onnx/model.onnx': '',
      'data/a.csv': '',
      'README.md': '',
    });
    await deployer.undeploy('x');
    for (const id of ['x', 'data', 'README.md']) {
      await expect(deployer.undeploy(id)).rejects.toMatchObject({ code: 'MODEL_NOT_FOUND' });
    }
    expect(visible(root)).toEqual(['README.md', 'data', 'x.onnx']);
    await deployer.undeploy('x.onnx');
    expect(visible(root)).toEqual(['README.md', 'data']);
  });

  it('does not find what is not there', async () => {
    const { deployer } = deployerOf({ 'a/1/model.onnx': '' });
    await expect(deployer.undeploy('b')).rejects.toMatchObject({ code: 'MODEL_NOT_FOUND' });
    await expect(deployer.undeploy('a@2')).rejects.toMatchObject({ code: 'MODEL_NOT_FOUND' });
  });
});

it('what a killed process left behind is removed when it is old, and not before', async () => {
  const { root, deployer } = deployerOf({ '.infermux-staging/young/model.onnx': '' });
  await deployer.cleanUp();
  expect(readdirSync(join(root, '.infermux-staging'))).toEqual(['young']);
  mkdirSync(join(root, 'other'));
  writeFiles(root, { '.infermux-staging/old/model.onnx': '' });
  const long = new Date(Date.now() - 7_200_000);
  utimesSync(join(root, '.infermux-staging', 'old'), long, long);
  await deployer.cleanUp();
  expect(readdirSync(join(root, '.infermux-staging'))).toEqual(['young']);
  rmSync(join(root, '.infermux-staging', 'young'), { recursive: true });
  await deployer.cleanUp();
  expect(readdirSync(root)).toEqual(['other']);
});
