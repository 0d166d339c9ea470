"use strict";
const $ = (id) => document.getElementById(id);
const COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#B87F00", "#3A9BD5", "#7F7F7F"];
const COLOURS_ON_DARK = ["#56B4E9", "#FF8A3D", "#2BD4A4", "#E9A3CB", "#F0C04D", "#9AD0F5", "#C0C0C0"];
const DASHES = ["solid", "dot", "dashdot", "longdash", "longdashdot"];
const RANGE = [-0.03, 1.05];
const NOISE = "noise";
const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "triangle-down", "x", "cross"];

/** Text of a script element that holds gzip in base64. */
async function unpack(id) {
  const bytes = Uint8Array.from(atob($(id).textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}

/** An element with text and children; text never becomes markup. */
function element(tag, text = "", ...children) {
  const node = document.createElement(tag);
  node.textContent = text;
  node.append(...children);
  return node;
}

function table(head, rows, caption) {
  const header = element("tr");
  for (const name of head) {
    const cell = element("th", name);
    cell.scope = "col";
    header.append(cell);
  }
  const body = element("tbody");
  for (const cells of rows) body.append(element("tr", "", ...cells.map((c) => (c instanceof Node ? element("td", "", c) : element("td", c)))));
  return element("table", "", element("caption", caption), element("thead", "", header), body);
}

function trust(word) {
  const span = element("span", word);
  span.className = "trust " + word;
  return span;
}

function open(row) {
  $("record-title").textContent = `${row.model}, ${row.attack} ${row.threat} on ${row.data}`;
  const body = $("record-body");
  body.replaceChildren();
  body.append(table(["what", "value"], row.overall.map(([name, text]) => [name, name === "trust" ? trust(text) : text]), "The row of the leaderboard, with 95 % intervals"));
  for (const record of row.records) {
    body.append(element("h3", `Record ${record.hash}`));
    body.append(table(["what", "value"], record.facts.map(([name, text]) => [name, text]), "What was measured"));
    body.append(table(["task", "n (distinct)", "clean", "robust", "ASR", "robust bal. acc.", "robust AUC", "most frequent class"], record.tasks, "Figures by task, with 95 % intervals"));
    if (record.diagnostics.length)
      body.append(table(["sign", "verdict", "measured", "advice"], record.diagnostics.map((d) => [d.sign, trust(d.verdict), d.text, d.advice]), "Signs that the attack failed"));
    else body.append(element("p", "No signs were looked for in this record."));
    if (record.challenges.length)
      body.append(table(["challenger", "samples tried", "points taken", "broke"], record.challenges, "What challengers broke of what the attack left"));
    body.append(element("p", "The command that makes this record again:"), element("pre", record.command));
    body.append(element("h4", "Examples"));
    if (!record.gallery.length) body.append(element("p", record.no_gallery));
    for (const example of record.gallery) {
      const image = element("img");
      image.src = "data:image/png;base64," + example.png;
      image.alt = `${example.columns}. ${example.text}`;
      body.append(element("figure", "", image, element("figcaption", `${example.columns}. ${example.text}`)));
    }
    body.append(element("h4", "Specification"), element("pre", JSON.stringify(record.spec, null, 1)));
  }
  for (const part of body.querySelectorAll("pre")) part.tabIndex = 0;
  $("record").showModal();
}

/** What opens behind a row of the leaderboard. */
function openVictim(row) {
  $("record-title").textContent = `${row.victim}, ${row.threat} on ${row.data}`;
  const body = $("record-body");
  body.replaceChildren();
  body.append(table(["what", "value"], row.facts, "The row of the leaderboard, with 95 % intervals"));
  body.append(table(["task", "n", "clean", "worst case"], row.tasks, "Tasks, with 95 % intervals"));
  body.append(table(["attack", "robust accuracy", "kind", "ran", "trust", "what speaks against it"], row.each.map((attack) => [...attack.cells, trust(attack.trust), attack.signs]), "Attacks of the worst case"));
  for (const attack of row.each) {
    body.append(element("h3", attack.cells[0]), element("pre", attack.command));
    const cell = data.rows.find((other) => other.hashes.includes(attack.record));
    if (cell) {
      const button = element("button", "Open its record: figures, signs, examples");
      button.type = "button";
      button.addEventListener("click", () => {
        $("record").close();
        open(cell);
      });
      body.append(button);
    }
  }
  for (const part of body.querySelectorAll("pre")) part.tabIndex = 0;
  $("record").showModal();
}

function error(row, what) {
  return { value: row[what], plus: row[what + "_high"] - row[what], minus: row[what] - row[what + "_low"] };
}

/** Makes a chart as high as its legend below it needs, so that the plot keeps its height and the axis title its place. */
function fit(id, traces) {
  const named = traces.filter((trace) => trace.showlegend !== false);
  const widest = Math.max(0, ...named.map((trace) => 60 + 6.5 * trace.name.length));
  const columns = Math.max(1, Math.floor(($(id).clientWidth - 65) / Math.max(widest, 1)));
  $(id).style.height = `${380 + 19 * Math.max(1, Math.ceil(named.length / columns))}px`;
}

function draw(rows) {
  const shown = rows.filter((row) => row.setting === $("setting").value);
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const palette = document.documentElement.classList.contains("dark") ? COLOURS_ON_DARK : COLOURS;
  const colourOf = (model) => palette[data.models.indexOf(model) % palette.length];
  const symbolOf = (row) => {
    const i = data.models.indexOf(row.model); // models that share a colour differ in their symbol
    return SYMBOLS[(i + Math.floor(i / palette.length)) % SYMBOLS.length] + (row.naive ? "-open" : "");
  };
  const axis = (title) => ({ title: { text: title }, gridcolor: colour("--line"), zerolinecolor: colour("--line"), linecolor: colour("--line") });
  const layout = (x, y) => ({
    paper_bgcolor: colour("--page"), plot_bgcolor: colour("--page"), font: { color: colour("--text"), family: "system-ui, sans-serif" },
    margin: { l: 55, r: 10, t: 10, b: 50 }, xaxis: axis(x), yaxis: { ...axis(y), range: RANGE }, legend: { orientation: "h", y: -0.22, font: { size: 11 } },
  });
  const config = { displaylogo: false, responsive: true };
  const lines = new Map();
  for (const row of shown) {
    const key = JSON.stringify([row.model, row.attack, row.trusted, row.settings]);
    lines.set(key, [...(lines.get(key) || []), row]);
  }
  const attacks = [...new Set(data.rows.map((row) => row.attack))].filter((attack) => attack !== NOISE).sort();
  const traces = [...lines.values()].map((points) => {
    points.sort((a, b) => a.radius - b.radius);
    const first = points[0];
    const noise = first.attack === NOISE; // thin and dashed, and not there before a click on the legend
    const all = [{ radius: 0, ...error(first, "clean") }, ...points.map((p) => ({ radius: p.radius, ...error(p, "robust") }))];
    return {
      name: `${first.model}, ${first.attack}${first.trusted}${first.settings}`, x: all.map((p) => p.radius), y: all.map((p) => p.value), mode: "lines+markers",
      error_y: { type: "data", symmetric: false, array: all.map((p) => p.plus), arrayminus: all.map((p) => p.minus), thickness: 1 },
      line: { color: colourOf(first.model), width: noise ? 1 : 2, dash: noise ? "dash" : DASHES[attacks.indexOf(first.attack) % DASHES.length] },
      marker: { size: noise ? 5 : 8, symbol: symbolOf(first) },
      ...(noise ? { visible: "legendonly", legendgroup: NOISE, showlegend: false } : {}),
    };
  });
  if (traces.some((trace) => trace.legendgroup === NOISE))
    traces.push({ name: "noise control of each", x: [null], y: [null], mode: "lines", line: { color: colour("--quiet"), width: 1, dash: "dash" }, visible: "legendonly", legendgroup: NOISE });
  const floors = [...new Set(shown.map((row) => row.floor).filter((floor) => floor !== null))].sort();
  const constant = (until) => floors.map((floor, i) => ({
    name: "most frequent class", x: [0, until], y: [floor, floor], mode: "lines", legendgroup: "floor", showlegend: i === 0,
    line: { color: colour("--text"), width: 1.5, dash: "9px,5px" },
  }));
  traces.push(...constant(Math.max(...shown.map((row) => row.radius))));
  const largest = Math.max(...shown.map((row) => row.gflops), 1e-9);
  const models = [...new Set(shown.map((row) => row.model))].sort();
  const points = models.map((model) => {
    const mine = shown.filter((row) => row.model === model && row.attack !== NOISE);
    return {
      name: model, mode: "markers", x: mine.map((row) => row.clean), y: mine.map((row) => row.robust),
      text: mine.map((row) => `${row.attack} ${row.threat}, ${row.gflops ? `${row.gflops.toPrecision(3)} GFLOPs` : "FLOPs not known"}, trust: ${row.trust}`.replace(/[<&]/g, (c) => (c === "<" ? "&lt;" : "&amp;"))),
      marker: { color: colourOf(model), symbol: mine.map(symbolOf), size: mine.map((row) => row.gflops ? 26 * Math.sqrt(row.gflops / largest) : 10), opacity: 0.75 },
    };
  });
  points.push(...constant(1));
  const square = layout("clean accuracy", "robust accuracy");
  square.xaxis.range = RANGE;
  for (const trace of [...traces, ...points]) trace.name = trace.name.replace(/&/g, "&amp;").replace(/</g, "&lt;");
  fit("radius", traces);
  Plotly.react("radius", traces, layout(shown.length && shown[0].norm !== "Linf" ? shown[0].norm + " radius" : "Linf radius (grey levels of 255)", "accuracy"), config);
  fit("pareto", points);
  Plotly.react("pareto", points, square, config);
}

/** On paper: all rows, light colours, and an open record in the page's flow; all of it taken back afterwards. */
function printing(tables, paint) {
  const record = $("record");
  let before = null;
  addEventListener("beforeprint", () => {
    before ??= { pages: tables.map((table) => [table.page.len(), table.page()]), dark: document.documentElement.classList.contains("dark"), open: record.open };
    for (const table of tables) table.page.len(-1).draw();
    if (before.dark) paint(false);
    if (before.open) {
      record.close();
      record.show();
    }
  });
  addEventListener("afterprint", () => {
    if (before === null) return;
    before.pages.forEach(([length, page], i) => tables[i].page.len(length).page(page).draw("page"));
    if (before.dark) paint(true);
    if (before.open) {
      record.close();
      record.showModal();
    }
    before = null;
  });
}

/** Names the pages of a table, as there are two: a landmark needs a name of its own. */
function named(table, label) {
  const name = () => table.table().container().querySelectorAll("nav").forEach((nav) => nav.setAttribute("aria-label", label));
  table.on("draw", name);
  name();
}

/** Drops a table's filters and search. */
function reset(table, selects) {
  for (const select of selects) select.value = "";
  table.search("").columns().search("").draw();
}

/** Filters of a table: each select narrows its column. */
function filtered(table, selects) {
  for (const select of selects)
    select.addEventListener("change", () => table.column(Number(select.dataset.column)).search(select.value, { exact: true }).draw());
}

const SHOWN = { order: [], pageLength: 25, lengthMenu: [10, 25, 100, { label: "all", value: -1 }], autoWidth: false };

/** The table of every attack with its charts; returns what draws them again. */
function everyAttack(DataTable) {
  const board = new DataTable("#board", { ...SHOWN, language: { search: "Search all columns" } });
  named(board, "pages of every attack");
  const visible = () => board.rows({ search: "applied" }).nodes().toArray().map((tr) => data.rows[tr.dataset.row]);
  const family = $("filter-family");
  board.search.fixed("family", (text, cells, index) => family.value === "" || data.rows[board.row(index).node().dataset.row].family === family.value);
  const floors = [...document.querySelectorAll("#board tfoot tr")];
  const redraw = () => {
    const rows = visible();
    if (rows.length && !rows.some((row) => row.setting === $("setting").value)) $("setting").value = rows[0].setting; // never empty charts beside rows
    const samples = new Set(rows.map((row) => row.samples));
    for (const floor of floors) floor.hidden = !samples.has(floor.dataset.samples);
    draw(rows);
  };
  const selects = document.querySelectorAll("section.filters select");
  filtered(board, document.querySelectorAll("section.filters select[data-column]"));
  family.addEventListener("change", () => board.draw());
  board.on("search", redraw);
  $("setting").addEventListener("change", redraw);
  $("reset").addEventListener("click", () => reset(board, selects));
  $("board").addEventListener("click", (event) => {
    const row = event.target.closest("tbody tr[data-row]");
    if (row) open(data.rows[row.dataset.row]);
  });
  return [board, redraw];
}

let data;
async function start() {
  data = JSON.parse(await unpack("data"));
  data.models = [...new Set(data.rows.map((row) => row.model))].sort();
  if ($("plotly")) document.head.append(element("script", await unpack("plotly")));
  const url = URL.createObjectURL(new Blob([await unpack("datatables")], { type: "text/javascript" }));
  const { default: DataTable } = await import(url);
  URL.revokeObjectURL(url);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const ranks = new DataTable("#ranks", { ...SHOWN, language: { search: "Search the leaderboard", lengthMenu: "_MENU_ rows per page" } });
  named(ranks, "pages of the leaderboard");
  filtered(ranks, document.querySelectorAll(".ranks select"));
  $("ranks").addEventListener("click", (event) => {
    const row = event.target.closest("tbody tr[data-row]");
    if (row) openVictim(data.board[row.dataset.row]);
  });
  const [board, redraw] = data.rows.length ? everyAttack(DataTable) : [null, () => {}];
  const paint = (on) => {
    document.documentElement.classList.toggle("dark", on);
    $("theme").setAttribute("aria-pressed", String(on));
    redraw();
  };
  $("theme").addEventListener("click", () => paint(!document.documentElement.classList.contains("dark")));
  dark.addEventListener("change", (event) => paint(event.matches));
  $("close").addEventListener("click", () => $("record").close());
  printing([ranks, board].filter(Boolean), paint);
  paint(dark.matches);
  document.documentElement.dataset.ready = "true";
}

start().catch((problem) => {
  $("status").textContent = `Sorting, charts and records need a newer browser; the table is complete without them. (${problem})`;
  throw problem;
});
