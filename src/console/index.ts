/// <reference types="node" preserve="true" />
/**
 * The console as a part of your own server.
 *
 * @module infermux/console
 */
export { type ConsoleOptions, createConsole, type MountedConsole } from './create-console.js';
