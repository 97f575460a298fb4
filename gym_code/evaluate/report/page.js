"use strict";
// The list of instances: filtered, and opened where a reader looks. Text from outside only ever becomes textContent.
const data = JSON.parse(document.getElementById("data").textContent);
const list = document.getElementById("list");
const told = document.getElementById("told");
const more = document.getElementById("more");
const find = document.getElementById("find");
const status = document.getElementById("status");
const flag = document.getElementById("flag");
const PAGE = 100;
let shown = PAGE;

function element(name, text, kind) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

const instances = new Map();
for (const row of data.rows) {
  if (!instances.has(row.instance_id)) instances.set(row.instance_id, []);
  instances.get(row.instance_id).push(row);
}
for (const [name, rows] of instances) {
  rows.text = [name, rows[0].repo, rows[0].difficulty, ...rows.flatMap((row) => [row.reason, row.model, ...row.flags])].join("\n").toLowerCase();
}

function matching() {
  const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
  return [...instances].filter(([, rows]) =>
    words.every((word) => rows.text.includes(word)) &&
    rows.some((row) => (!status.value || row.kind === status.value) && (!flag.value || row.flags.includes(flag.value)))
  );
}

function tests(label, of) {
  return of.of ? `${label}: ${of.passed} of ${of.of} passed` : "";
}

function attempt(row) {
  const made = element("div", undefined, "attempt");
  const title = data.samples > 1 ? `sample ${row.sample}: ${data.words[row.kind]}` : data.words[row.kind];
  made.append(element("h3", title + (data.chosen[row.instance_id] === row.sample ? " (chosen)" : "")));
  const spent = [
    row.patch_bytes === null ? "no patch" : `patch of ${row.patch_bytes} bytes`,
    row.turns === null ? "" : `${row.turns} turns`,
    row.tokens === null ? "" : `${row.tokens} tokens`,
    row.agent_seconds === null ? "" : `${row.agent_seconds} s`,
    row.cost === null ? "" : `cost ${row.cost}`,
    row.model,
    row.grader ? `graded by ${row.grader}` : "",
  ];
  const ran = row.ran ? [tests("FAIL_TO_PASS", row.fail_to_pass), tests("PASS_TO_PASS", row.pass_to_pass)] : ["no test ran"];
  const said = [
    ran, spent, [row.reason], row.flags.length ? [`flags: ${row.flags.join(", ")}`] : [],
    row.gradings.length > 1 ? [`graded ${row.gradings.length} times: ${row.gradings.map((yes) => (yes ? "yes" : "no")).join(", ")}`] : [],
  ];
  for (const parts of said) {
    const line = parts.filter(Boolean).join(", ");
    if (line) made.append(element("p", line));
  }
  const failed = Object.entries(row.not_passed);
  if (failed.length) {
    const items = element("ul");
    for (const [test, outcome] of failed) {
      const item = element("li");
      item.append(element("code", test), ` ${outcome}`);
      items.append(item);
    }
    const rest = row.fail_to_pass.of + row.pass_to_pass.of - row.fail_to_pass.passed - row.pass_to_pass.passed - failed.length;
    if (rest > 0) items.append(element("li", `and ${rest} more`));
    made.append(items);
  }
  if (row.logs) {
    const line = element("p", "logs: ");
    for (const name of row.logs.files) {
      const link = element("a", name);
      link.href = `${row.logs.folder}/${name}`;
      line.append(link, " ");
    }
    made.append(line);
  }
  return made;
}

function instance(name, rows) {
  const made = element("details");
  const head = element("summary");
  for (const row of rows) {
    const chip = element("i", undefined, `chip s-${row.kind}`);
    chip.title = data.words[row.kind];
    head.append(chip);
  }
  head.append(element("b", name), element("span", [rows[0].repo, rows[0].difficulty].filter(Boolean).join(", ")));
  const label = [...new Set(rows.map((row) => data.words[row.kind]))].join(", ");
  head.append(element("span", label));
  made.append(head);
  made.addEventListener("toggle", () => {
    if (made.open && made.childElementCount === 1) made.append(...rows.map(attempt));
  });
  return made;
}

function show() {
  const found = matching();
  list.replaceChildren(...found.slice(0, shown).map(([name, rows]) => instance(name, rows)));
  told.textContent = `${found.length} of ${instances.size} instances` + (found.length > shown ? `, the first ${shown} shown` : "");
  more.hidden = found.length <= shown;
}

function again() {
  shown = PAGE;
  show();
}

for (const [select, names] of [[status, data.kinds], [flag, data.flags]]) {
  for (const name of names) {
    const option = element("option", data.words[name] || name);
    option.value = name;
    select.append(option);
  }
  select.hidden = names.length < (select === status ? 2 : 1);
  select.addEventListener("change", again);
}
find.addEventListener("input", again);
more.addEventListener("click", () => {
  shown += 5 * PAGE;
  show();
});
show();
