import { existsSync } from 'node:fs';
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { createEngine, type InferenceEngine } from '../../dist/index.js';
import type { InferenceServer } from '../../dist/server/index.js';
import { createServer } from '../../dist/server/index.js';
import { CONTRASTS, DROP_OF_A_ONE } from '../support/browser-scripts.js';
import { directory } from '../support/directories.js';
import { modelDirectory, scaleModel } from '../support/onnx-models.js';

/** Where distributions have the browser. */
const BROWSER = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(existsSync);
const models = new URL('../../native-models', import.meta.url);

describe.skipIf(BROWSER === undefined)('the page of the console, in a browser', () => {
  let browser: Browser;
  let engine: InferenceEngine;
  let server: InferenceServer;
  let address: string;
  const faults: string[] = [];
  const pages: Page[] = [];

  beforeAll(async () => {
    const options = { executablePath: BROWSER as string, args: ['--no-sandbox'] };
    [browser, engine] = await Promise.all([chromium.launch(options), createEngine({ models, replicas: 2 })]);
    server = await createServer(engine, { http: { port: 0 }, grpc: false });
    address = `http://127.0.0.1:${server.http?.port}`;
  });
  afterAll(async () => {
    await browser.close();
    await server.close({ graceMs: 1_000 });
    await engine.close();
  });
  afterEach(async () => {
    for (const page of pages.splice(0)) await page.context().close();
    expect(faults.splice(0)).toStrictEqual([]);
  });

  /** Opens the page, and notes errors and requests to elsewhere. */
  async function open(hash = '#/', options: BrowserContextOptions = {}, at = address): Promise<Page> {
    const page = await (await browser.newContext(options)).newPage();
    pages.push(page);
    page.on('pageerror', (error) => faults.push(String(error)));
    page.on('console', (message) => message.type() === 'error' && faults.push(message.text()));
    page.on('request', (request) => {
      if (!request.url().startsWith(`${at}/console`)) faults.push(`a request to ${request.url()}`);
    });
    await page.goto(`${at}/console${hash}`);
    return page;
  }

  const image = () => ({ image: { dims: [1, 64], data: new Float32Array(64) } });

  it('shows throughput, latency, replicas and what they have, and is brought up to date', async () => {
    const page = await open();
    const load = setInterval(() => void engine.run('digits-cnn', image()), 5);
    try {
      const row = page.getByRole('row').filter({ hasText: 'digits-cnn@1' });
      await expect.poll(() => row.locator('td').nth(1).textContent(), { timeout: 10_000 }).toMatch(/[1-9]/);
      expect(await row.locator('td').nth(3).textContent()).toMatch(/ ms$/);
      expect(await page.locator('#state').textContent()).toMatch(/^ready · \d/);
      expect(await page.locator('canvas').count()).toBe(4);
      await page.getByRole('link', { name: 'Replicas' }).click();
      await page.getByRole('article', { name: 'default-0' }).waitFor();
      await expect.poll(() => page.locator('.chips').allTextContents()).toContain('digits-cnn@1');
    } finally {
      clearInterval(load);
    }
  });

  it('says why requests failed, and what happened', async () => {
    const page = await open('#/events');
    await expect.poll(() => page.getByText('No request has failed').isVisible()).toBe(true);
    await engine.run('nobody', image()).catch(() => undefined);
    await page.getByRole('cell', { name: 'MODEL_NOT_FOUND' }).first().waitFor();
    await engine.models.load('digits-mlp');
    await page.getByText(/loaded digits-mlp@1 in \d+ ms/).waitFor();
  });

  it('sorts by a click, and finds models by a part of their ids', async () => {
    const page = await open('#/models');
    await page.getByRole('button', { name: 'model', exact: true }).click();
    await page.getByRole('button', { name: 'model', exact: true }).click();
    await expect.poll(() => page.locator('tbody tr').first().textContent()).toContain('digits-mlp@1');
    await page.getByLabel('Find').fill('cnn');
    await expect.poll(() => page.locator('tbody tr').count()).toBe(1);
  });

  it('runs a model with a picture that is dropped onto it', async () => {
    const page = await open('#/model/digits-cnn');
    const files = await page.evaluateHandle(DROP_OF_A_ONE);
    await page.locator('.drop').dispatchEvent('drop', { dataTransfer: files });
    await page.getByRole('img', { name: /as the model gets it/ }).waitFor();
    await page.getByRole('button', { name: 'Run' }).click();
    await page.getByText(/ms running/).waitFor();
    expect(await page.locator('.top span').first().textContent()).toBe('#1');
  });

  it('says what is wrong with the elements, and loads and unloads where that is allowed', async () => {
    const page = await open('#/model/digits-mlp');
    await page.getByLabel('Elements').fill('1 2 three');
    await page.getByRole('button', { name: 'Run' }).click();
    await page.getByText('"three" is not a number').waitFor();
    await page.getByRole('button', { name: 'Random' }).click();
    await page.getByRole('button', { name: 'Run' }).click();
    await page.getByText(/ms running/).waitFor();
    await page.getByRole('button', { name: 'Unload', exact: true }).click();
    await page.getByText('unloaded', { exact: true }).waitFor();
    await page.getByText('loaded in no replica').waitFor();
  });

  it('offers no loads and unloads where they are not allowed', async () => {
    const guarded = await createServer(engine, { http: { port: 0 }, grpc: false, admin: false });
    const page = await open('#/model/digits-mlp', {}, `http://127.0.0.1:${guarded.http?.port}`);
    await page.getByText(/^version 1 · loaded in/).waitFor();
    await page.getByRole('button', { name: 'Run' }).waitFor();
    expect(await page.getByRole('button', { name: /load/i }).count()).toBe(0);
    await page.context().close();
    await guarded.close({ graceMs: 1_000 });
  });

  it('can be used by the keyboard alone', async () => {
    const page = await open();
    await page.getByRole('article').or(page.locator('.tile')).first().waitFor();
    await page.keyboard.press('Tab');
    expect(await page.evaluate('document.activeElement.textContent')).toBe('Skip to the content');
    await page.keyboard.press('Enter');
    expect(await page.evaluate('[document.activeElement.id, location.hash]')).toStrictEqual(['main', '#/']);
    for (let tabs = 0; tabs < 3; tabs += 1) await page.keyboard.press('Shift+Tab');
    await page.keyboard.press('Enter');
    await expect.poll(() => page.evaluate('location.hash')).toBe('#/models');
    expect(await page.evaluate('document.activeElement.id')).toBe('main');
  });

  it.each(['light', 'dark'] as const)('has readable colours, in %s', async (colorScheme) => {
    const page = await open('#/models', { colorScheme });
    await page.locator('tbody tr').first().waitFor();
    const contrast = await page.evaluate<number[]>(CONTRASTS);
    expect(contrast.length).toBeGreaterThan(20);
    expect(Math.min(...contrast)).toBeGreaterThan(4.5);
  });

  it.each(['#/', '#/models', '#/replicas', '#/events', '#/model/digits-cnn'])('fits on a phone: %s', async (hash) => {
    const page = await open(hash, { viewport: { width: 360, height: 700 } });
    await expect.poll(() => page.locator('#state').textContent()).toMatch(/^ready/);
    expect(await page.evaluate('document.documentElement.scrollWidth')).toBeLessThanOrEqual(360);
  });

  it('asks for a key where one is needed, and connects again when the server comes back', async () => {
    const small = modelDirectory({ 'times-2': scaleModel(2) });
    const other = await createEngine({ models: small, replicas: 1 });
    const auth = { keys: { file: `${directory({ keys: 'a-secret-of-some-length\n' })}/keys` } };
    let own = await createServer(other, { http: { port: 0 }, grpc: false, auth });
    const port = own.http?.port as number;
    const at = `http://127.0.0.1:${port}`;
    const page = await open('#/', {}, at);
    const give = async (key: string) => {
      await page.getByLabel('This server needs a key').fill(key);
      await page.getByRole('button', { name: 'Use it' }).click();
    };
    await give('a-secret-of-another-length');
    await page.getByText('The server refused the last key.').waitFor();
    await page.getByRole('link', { name: 'Models' }).click();
    await page.goto(`${at}/console#/model/times-2`);
    await give('a-secret-of-some-length');
    await expect.poll(() => page.locator('#state').textContent()).toMatch(/^ready/);
    await page.getByLabel('Elements').waitFor();
    await own.close({ graceMs: 5_000 });
    await expect.poll(() => page.locator('#state').getAttribute('class')).toBe('bad');
    own = await createServer(other, { http: { port }, grpc: false, auth });
    await expect.poll(() => page.locator('#state').textContent(), { timeout: 15_000 }).toMatch(/^ready/);
    // What the browser says of the missing key and the lost connection.
    faults.length = 0;
    await own.close({ graceMs: 1_000 });
    await other.close();
  });
});
