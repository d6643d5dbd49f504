// Before anything is painted: the theme that was chosen, where one was. (A module would come too late.)
"use strict";
{
  const chosen = localStorage.getItem("varve-theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
}
