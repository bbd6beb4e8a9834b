// Before anything is drawn: the theme chosen last time.
try {
  const chosen = localStorage.getItem("nfbench-theme");
  if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
} catch { /* storage is switched off: follow the system */ }
document.documentElement.classList.add("js");
