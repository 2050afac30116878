#include "src/core/control_groups.hpp"

#include <fstream>
#include <iterator>
#include <sstream>

namespace slipway {

std::string process_cgroups() {
  std::ifstream file("/proc/self/cgroup");
  return {std::istreambuf_iterator<char>(file), {}};
}

void for_each_cgroup(const std::string& groups, std::string_view controller, const std::filesystem::path& root,
                     const std::function<void(const std::filesystem::path& folder, int version)>& visit) {
  std::istringstream lines(groups);
  for (std::string line; std::getline(lines, line);) {  // hierarchy:controllers:/path
    const std::size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::filesystem::path path = std::filesystem::path(line.substr(second + 1)).relative_path();
    const auto visit_ancestors = [&](const std::filesystem::path& mount, int version) {
      for (std::filesystem::path group = path;; group = group.parent_path()) {
        visit(mount / group, version);
        if (group.empty()) break;
      }
    };
    if (controllers.empty()) visit_ancestors(root, 2), visit_ancestors(root / "unified", 2);
    else if ((',' + controllers + ',').find(',' + std::string(controller) + ',') != std::string::npos)
      visit_ancestors(root / controller, 1);
  }
}

}  // namespace slipway
