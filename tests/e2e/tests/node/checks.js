// What the scripts beside share: checks that all run, and are told at the end.
"use strict";
const { isDeepStrictEqual, inspect } = require("node:util");

const PATIENCE = 30_000;
const checks = [];

exports.check = (name, work) => checks.push([name, work]);

exports.equal = (found, wanted) => {
  if (!isDeepStrictEqual(found, wanted)) throw new Error(`${inspect(found)} instead of ${inspect(wanted)}`);
};

/// Expects what was promised to be refused with this status and word.
exports.refuses = async (status, text, promise) => {
  try {
    await promise;
  } catch (error) {
    exports.equal(error.statusCode, status);
    if (!String(error.message).includes(text)) throw new Error(`${error.message} lacks ${text}`);
    return;
  }
  throw new Error(`was not refused: ${text}`);
};

/// Waits until `state` gives something true.
exports.waited = async (what, state) => {
  const until = Date.now() + PATIENCE;
  while (Date.now() < until) {
    const found = await state();
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error(`waited in vain for ${what}`);
};

/// All that a stream says until its end.
exports.read = async (stream) => {
  const parts = [];
  for await (const part of stream) parts.push(part);
  return Buffer.concat(parts);
};

/// Runs the checks one after the other.
exports.finish = async () => {
  const failed = [];
  for (const [name, work] of checks) {
    try {
      await work();
      console.log("ok", name);
    } catch (error) {
      failed.push(name);
      console.log("FAILED", name, error);
    }
  }
  if (failed.length > 0) console.error(`failed: ${failed.join(", ")}`);
  // Connections that are kept would hold the program.
  process.exit(failed.length > 0 ? 1 : 0);
};
