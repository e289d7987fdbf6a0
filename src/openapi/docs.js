// Shows openapi.json: routes by tag, each with its parameters, an example of its body, and its answers. Knows what our own
// document uses of OpenAPI, not all of it.

const $ = (id) => document.getElementById(id);
const METHODS = ["get", "post", "put", "delete"];

function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name in node) node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children.filter((it) => it !== null && it !== undefined));
  return node;
}

// Text with `code` in it.
const prose = (text) => (text ?? "").split("`").map((part, index) => (index % 2 ? el("code", {}, part) : document.createTextNode(part)));

let api;

// What stands at a reference; what stands beside it counts more.
function resolve(it) {
  if (!it?.$ref) return it ?? {};
  const target = it.$ref.slice(2).split("/").reduce((at, name) => at[name], api);
  const { $ref, ...beside } = it;
  return { ...resolve(target), ...beside };
}

const nameOf = (it) => it.$ref?.split("/").at(-1);

// ---- Schemas ---------------------------------------------------------------------------------------------------------

// A schema in a few words: `SaleId or null`, `list of Line`, `integer, 1 to 100`.
function words(schema) {
  if (schema.$ref) return nameOf(schema);
  if (schema.anyOf) return schema.anyOf.map(words).join(" or ");
  if ("const" in schema) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((it) => JSON.stringify(it)).join(", ");
  if (schema.type === "array") return `list of ${words(schema.items)}${span(schema.minItems, schema.maxItems, " entries")}`;
  const type = [schema.type ?? "any JSON"].flat().join(" or ");
  const limits = span(schema.minimum, schema.maximum, "") + span(schema.minLength, schema.maxLength, " characters");
  return type + limits + ("default" in schema ? `, ${JSON.stringify(schema.default)} when absent` : "");
}

function span(from, to, what) {
  if (from === undefined && to === undefined) return "";
  if (to === undefined) return `, at least ${from}${what}`;
  return from === undefined ? `, at most ${to}${what}` : `, ${from} to ${to}${what}`;
}

// The schemas inside a schema that have members of their own.
function inner(schema) {
  if (schema.anyOf) return schema.anyOf.flatMap(inner);
  if (schema.type === "array") return inner(schema.items);
  return resolve(schema).properties ? [schema] : [];
}

function members(schema) {
  const { properties, required = [] } = resolve(schema);
  return el("table", {}, ...Object.entries(properties).map(([name, member]) => el("tr", {},
    el("td", {}, el("code", {}, name), el("span", { className: "type" }, required.includes(name) ? "always" : "may be absent")),
    el("td", {}, el("span", { className: "type" }, words(member)), ...prose(resolve(member).description), ...inner(member).map(folded)))));
}

// Folded, and drawn when it is opened: some of them are deep.
function folded(schema) {
  const node = el("details", { className: "schema" }, el("summary", {}, nameOf(schema) ?? "members"));
  node.addEventListener("toggle", () => node.open && node.children.length === 1 && node.append(members(schema)), { once: true });
  return node;
}

// A refusal has said in words what it is; its form is the same everywhere.
function content(all) {
  return Object.entries(all ?? {}).flatMap(([type, { schema, example }]) => type === "application/problem+json" ? inner(schema).map(folded) : [
    el("p", { className: "quiet" }, type, schema ? `: ${words(schema)}` : "", schema ? " " : null, ...prose(schema ? resolve(schema).description : "")),
    example === undefined ? null : el("pre", {}, JSON.stringify(example, null, 2)),
    ...(schema ? inner(schema).map(folded) : []),
  ]);
}

// ---- Routes ----------------------------------------------------------------------------------------------------------

function route(path, method, it) {
  const body = el("div");
  const node = el("details", { className: "card route", id: it.operationId },
    el("summary", {}, el("span", { className: `method ${method}` }, method.toUpperCase()), el("span", { className: "path" }, path),
      el("span", { className: "quiet" }, it.summary)), body);
  node.addEventListener("toggle", () => {
    if (node.open && !body.childElementCount) body.append(...insides(it));
  });
  const answers = Object.values(it.responses).map((answer) => resolve(answer).description);
  node.text = [path, method, it.operationId, it.summary, it.description, ...it.tags, ...answers,
    ...(it.parameters ?? []).map((parameter) => resolve(parameter).name)].join(" ").toLowerCase();
  return node;
}

function insides(it) {
  const parameters = (it.parameters ?? []).map(resolve);
  const request = it.requestBody && resolve(it.requestBody);
  return [
    el("p", {}, ...prose(it.description)),
    el("div", { className: "roles" }, ...(it["x-roles"] ?? []).map((role) => el("span", { className: "tag" }, role))),
    ...(parameters.length ? [el("h4", {}, "Parameters"), el("table", {}, ...parameters.map((parameter) => el("tr", {},
      el("td", {}, el("code", {}, parameter.name), el("span", { className: "type" }, `${parameter.in}${parameter.required ? ", needed" : ""}`)),
      el("td", {}, el("span", { className: "type" }, words(parameter.schema)),
        ...prose(parameter.description ?? resolve(parameter.schema).description)))))] : []),
    ...(request ? [el("h4", {}, request.required ? "Body" : "Body (may be left out)"), ...content(request.content)] : []),
    el("h4", {}, "Answers"),
    el("table", {}, ...Object.entries(it.responses).map(([status, answer]) => {
      const { description, headers = {}, content: kinds } = resolve(answer);
      return el("tr", {}, el("td", {}, el("code", {}, status === "default" ? "else" : status)),
        el("td", {}, ...prose(description),
          ...Object.entries(headers).map(([name, header]) => el("p", { className: "quiet" }, el("code", {}, name), " ", ...prose(header.description))),
          ...content(kinds).filter((part) => part !== null)));
    })),
  ].filter((part) => part !== null);
}

// ---- The page --------------------------------------------------------------------------------------------------------

function search() {
  const wanted = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  for (const section of $("routes").children) {
    let some = false;
    for (const node of section.querySelectorAll("details.route")) {
      node.hidden = !wanted.every((word) => node.text.includes(word));
      if (!node.hidden) [some, count] = [true, count + 1];
    }
    section.hidden = !some;
  }
  $("found").textContent = wanted.length ? `${count} found` : `${count} routes`;
}

// The address behind `#` names a route or a group: an open route can be shared.
function visit() {
  const node = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!node) return;
  if (node.matches("details.route")) node.open = true;
  node.scrollIntoView();
}

function draw() {
  const { title, version, description } = api.info;
  $("name").textContent = `${title} API`;
  $("version").textContent = version;
  $("about").append(...description.split("\n\n").map((it) => el("p", {}, ...prose(it))),
    ...Object.values(api.components.securitySchemes).map((it) => el("p", { className: "quiet" }, it.scheme ? el("code", {}, "Authorization: Bearer …") : el("code", {}, it.name), " ", ...prose(it.description))));
  const routes = Object.entries(api.paths).flatMap(([path, methods]) =>
    METHODS.filter((it) => methods[it]).map((it) => ({ path, method: it, operation: methods[it] })));
  for (const { name, description: about } of api.tags) {
    const own = routes.filter((it) => it.operation.tags.includes(name));
    $("tags").append(el("a", { href: `#${encodeURIComponent(name)}` }, name));
    $("routes").append(el("section", { id: name }, el("h2", {}, name), el("p", { className: "quiet" }, about),
      ...own.map((it) => route(it.path, it.method, it.operation))));
  }
  $("search").addEventListener("input", search);
  window.addEventListener("hashchange", visit);
  search();
  visit();
}

try {
  const response = await fetch("/openapi.json");
  if (!response.ok) throw new Error(`${response.status} ${response.statusText}`);
  api = await response.json();
  draw();
} catch (error) {
  $("about").append(el("p", { className: "bad" }, `The document cannot be read: ${error.message}`));
}
