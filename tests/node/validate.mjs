// What the validators say of documents, as JSON: AsyncAPI's own parser, and Spectral's rules for OpenAPI.
// node validate.mjs FILE...
import { readFileSync } from "node:fs";
import { Parser } from "@asyncapi/parser";
import core from "@stoplight/spectral-core";
import rulesets from "@stoplight/spectral-rulesets";

const LEFT_OUT = {
  // Whom to ask depends on who runs the service.
  "info-contact": "off",
  // Callers come first.
  "openapi-tags-alphabetical": "off",
};

const parser = new Parser();
const spectral = new core.Spectral();
spectral.setRuleset({ extends: [[rulesets.oas, "all"]], rules: LEFT_OUT });

async function validate(text) {
  const found = "asyncapi" in JSON.parse(text) ? (await parser.parse(text)).diagnostics : await spectral.run(text);
  return found.map(({ code, path, message }) => ({ code, path: path.join("."), message }));
}

const said = {};
for (const file of process.argv.slice(2)) {
  said[file] = await validate(readFileSync(file, "utf8"));
}
console.log(JSON.stringify(said));
