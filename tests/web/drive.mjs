// Opens a page in a browser, gives it a picture as a user does, and prints what it says as JSON.
// Arguments: the folder with node_modules, the browser, the address of the page, the picture, where the screenshot goes.

import { createRequire } from "node:module";
import process from "node:process";

const [modules, executablePath, url, picture, screenshot] = process.argv.slice(2);
const { chromium } = createRequire(`${modules}/`)("playwright-core");

const browser = await chromium.launch({ executablePath });
try {
  const page = await browser.newPage({ viewport: { width: 760, height: 720 } });
  const problems = [];
  const requested = [];
  page.on("pageerror", (error) => problems.push(error.message));
  page.on("console", (message) => message.type() === "error" && problems.push(message.text()));
  page.on("request", (request) => requested.push(request.url()));
  await page.goto(url);
  await said(page, /^(ready|error)/);
  await page.setInputFiles("#file", picture);
  await said(page, /( ms with decoding|^error)/);
  await page.screenshot({ path: screenshot });
  const status = await page.textContent("#status");
  const guesses = await page.$$eval("#guesses tr", (rows) => rows.map((row) => [...row.cells].map((cell) => cell.innerText)));
  const scores = await page.evaluate(scoresOfTheChosenFile);
  console.log(JSON.stringify({ status, guesses, scores, problems, requested: requested.filter((it) => !it.startsWith("blob:")) }));
} finally {
  await browser.close();
}

async function said(page, pattern) {
  await page.waitForFunction((source) => new RegExp(source).test(document.querySelector("#status").textContent), pattern.source);
}

async function scoresOfTheChosenFile() {
  const { load, decode, prepare } = await import("./classify.mjs");
  const classifier = await load(await import("onnxruntime-web"));
  return Array.from(await classifier.scores(prepare(await decode(document.querySelector("#file").files[0]))));
}
