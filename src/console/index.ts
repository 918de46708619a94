/// <reference types="node" preserve="true" />
export { type ConsoleOptions, createConsole, type MountedConsole } from './create-console.js';
