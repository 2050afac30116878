#include "io/hdf5.hpp"

#include <hdf5.h>

#include <array>
#include <cerrno>
#include <limits>
#include <mutex>
#include <set>
#include <utility>

#include "src/core/error.hpp"

namespace slipway {
namespace {

constexpr hsize_t kDataAlignment = 4096;  // tensor data starts on a page, so that mmap and direct reads are aligned

/// Debian's build of HDF5 is not thread-safe, so a process makes one call at a time.
std::mutex& hdf5_mutex() {
  static std::mutex mutex;
  return mutex;
}

/// The reason for which the last HDF5 call failed: that of errno, if it is set.
std::string reason() { return errno != 0 ? errno_message() : "the library gives no reason"; }

/// Owns an HDF5 object and closes it. Errors: Fault::kStorage when `id` is invalid.
class Handle {
 public:
  Handle(hid_t id, herr_t (*closer)(hid_t), const std::string& what) : id_(id), closer_(closer) {
    if (id < 0) throw Error(Fault::kStorage, join("HDF5 cannot ", what, ": ", reason()));
  }
  ~Handle() {
    if (id_ >= 0) closer_(id_);
  }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  operator hid_t() const { return id_; }  // NOLINT: implicit, to be passed to HDF5 calls

  /// Closes now and reports failure: for files, where closing writes.
  void close(const std::string& what) {
    errno = 0;
    if (closer_(std::exchange(id_, -1)) < 0) throw Error(Fault::kStorage, join("HDF5 cannot ", what, ": ", reason()));
  }

 private:
  hid_t id_;
  herr_t (*closer_)(hid_t);
};

void check(herr_t status, const std::string& what) {
  if (status < 0) throw Error(Fault::kStorage, join("HDF5 cannot ", what, ": ", reason()));
}

/// A property list that stores no timestamps, so that equal content gives equal bytes.
Handle make_property_list(hid_t property_class) {
  const hid_t list = H5Pcreate(property_class);
  H5Pset_obj_track_times(list, 0);
  return {list, H5Pclose, "make a property list"};
}

Handle create_file(const std::filesystem::path& path) {
  const Handle access_properties(H5Pcreate(H5P_FILE_ACCESS), H5Pclose, "make a property list");
  check(H5Pset_libver_bounds(access_properties, H5F_LIBVER_V18, H5F_LIBVER_V110), "choose a file version");
  check(H5Pset_file_locking(access_properties, 0, 1), "switch its file locks off");
  check(H5Pset_fclose_degree(access_properties, H5F_CLOSE_STRONG), "choose how files close");
  check(H5Pset_alignment(access_properties, kDataAlignment, kDataAlignment), "align data");
  const Handle creation_properties = make_property_list(H5P_FILE_CREATE);
  errno = 0;
  return {H5Fcreate(path.c_str(), H5F_ACC_TRUNC, creation_properties, access_properties), H5Fclose,
          join("create ", path.string())};
}

Handle make_dataspace(const std::vector<std::int64_t>& shape) {
  const std::vector<hsize_t> size(shape.begin(), shape.end());
  return {H5Screate_simple(static_cast<int>(size.size()), size.data(), nullptr), H5Sclose, "make a data space"};
}

/// Creates the parent groups of `path` that are not in `existing_groups`, and adds them to it.
void create_groups(hid_t file, const std::string& path, std::set<std::string>& existing_groups) {
  for (std::size_t slash = path.find('/', 1); slash != std::string::npos; slash = path.find('/', slash + 1)) {
    const std::string group = path.substr(0, slash);
    if (!existing_groups.insert(group).second) continue;
    const Handle properties = make_property_list(H5P_GROUP_CREATE);
    Handle(H5Gcreate2(file, group.c_str(), H5P_DEFAULT, properties, H5P_DEFAULT), H5Gclose,
           join("create the group ", group));
  }
}

void set_attribute(hid_t file, const char* name, const std::string& text) {
  const Handle type(H5Tcopy(H5T_C_S1), H5Tclose, "make a text type");
  check(H5Tset_size(type, text.size() + 1), "size a text type");
  check(H5Tset_cset(type, H5T_CSET_UTF8), "choose UTF-8");
  const Handle space(H5Screate(H5S_SCALAR), H5Sclose, "make a data space");
  const Handle attribute(H5Acreate2(file, name, type, space, H5P_DEFAULT, H5P_DEFAULT), H5Aclose,
                         join("create ", name));
  check(H5Awrite(attribute, type, text.c_str()), join("write ", name));
}

void set_attribute(hid_t file, const char* name, std::int64_t number) {
  const Handle space(H5Screate(H5S_SCALAR), H5Sclose, "make a data space");
  const Handle attribute(H5Acreate2(file, name, H5T_STD_I64LE, space, H5P_DEFAULT, H5P_DEFAULT), H5Aclose,
                         join("create ", name));
  check(H5Awrite(attribute, H5T_NATIVE_INT64, &number), join("write ", name));
}

/// The attributes of both kinds of file.
void set_file_attributes(hid_t file, std::int64_t step, const std::string& run_id) {
  set_attribute(file, "format", "slipway.checkpoint");
  set_attribute(file, "format_version", std::int64_t{kCheckpointVersion});
  set_attribute(file, "run_id", run_id);
  set_attribute(file, "step", step);
}

/// A box as an HDF5 hyperslab with the tensor's number of axes.
struct Hyperslab {
  std::array<hsize_t, 2> offset, extent;
  int axes;

  Hyperslab(const Box& box, std::size_t tensor_axes) : axes(static_cast<int>(tensor_axes)) {
    for (int axis = 0; axis < axes; ++axis) {
      const int box_axis = axis + 2 - axes;  // [n] is one row of n columns
      offset[axis] = static_cast<hsize_t>(box.offset[box_axis]);
      extent[axis] = static_cast<hsize_t>(box.extent[box_axis]);
    }
  }
};

}  // namespace

std::string hdf5_version() {
  unsigned major = 0, minor = 0, release = 0;
  H5get_libversion(&major, &minor, &release);
  return join("HDF5 ", major, ".", minor, ".", release);
}

void init_hdf5() {
  const std::lock_guard lock(hdf5_mutex());
  static bool initialized = false;
  if (initialized) return;
  H5dont_atexit();  // else HDF5 retries at exit to close a file that a full disk prevented from closing
  if (H5open() < 0) throw Error(Fault::kStorage, "the HDF5 library does not start: reinstall libhdf5-openmpi-103-1");
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);  // errors are thrown as sentences; no HDF5 error stacks on stderr
  initialized = true;
}

std::vector<std::uint64_t> create_hdf5_slices(const std::filesystem::path& path, std::span<const Hdf5Dataset> datasets,
                                              std::int64_t step, const std::string& run_id) {
  init_hdf5();
  const std::lock_guard lock(hdf5_mutex());
  Handle file = create_file(path);
  set_file_attributes(file, step, run_id);

  const Handle properties = make_property_list(H5P_DATASET_CREATE);
  check(H5Pset_layout(properties, H5D_CONTIGUOUS), "choose a contiguous layout");
  check(H5Pset_alloc_time(properties, H5D_ALLOC_TIME_EARLY), "set space aside");  // so that offsets are known
  check(H5Pset_fill_time(properties, H5D_FILL_TIME_NEVER), "leave space unwritten");

  std::set<std::string> groups;
  std::vector<std::uint64_t> offsets;
  for (const Hdf5Dataset& dataset : datasets) {
    create_groups(file, dataset.path, groups);
    const Handle space = make_dataspace(dataset.extent);
    const Handle handle(
        H5Dcreate2(file, dataset.path.c_str(), H5T_IEEE_F32LE, space, H5P_DEFAULT, properties, H5P_DEFAULT), H5Dclose,
        join("create ", dataset.path, " in ", path.string()));
    const haddr_t offset = H5Dget_offset(handle);
    require(offset != HADDR_UNDEF, "HDF5 gave a contiguous dataset no place");
    offsets.push_back(offset);
  }
  file.close(join("finish ", path.string()));
  return offsets;
}

void create_hdf5_index(const std::filesystem::path& path, const Manifest& manifest) {
  init_hdf5();
  const std::lock_guard lock(hdf5_mutex());
  Handle file = create_file(path);
  set_file_attributes(file, manifest.info.step, manifest.info.run_id);

  std::set<std::string> groups;
  for (const StoredTensor& tensor : manifest.tensors) {
    const std::string name = "/" + tensor.kind + "/" + tensor.name;
    create_groups(file, name, groups);
    const Handle properties = make_property_list(H5P_DATASET_CREATE);
    const float fill_value = std::numeric_limits<float>::quiet_NaN();
    check(H5Pset_fill_value(properties, H5T_NATIVE_FLOAT, &fill_value), "set the fill value");
    const Handle space = make_dataspace(tensor.shape);
    for (const StoredSlice& slice : tensor.slices) {
      const Hyperslab slab(slice.region, tensor.shape.size());
      check(H5Sselect_hyperslab(space, H5S_SELECT_SET, slab.offset.data(), nullptr, slab.extent.data(), nullptr),
            join("select a slice of ", name));
      const Handle source(H5Screate_simple(slab.axes, slab.extent.data(), nullptr), H5Sclose, "make a data space");
      const std::string& file_name =
          manifest.files[static_cast<std::size_t>(slice.file)].name;  // without a path: the folder may move
      check(H5Pset_virtual(properties, space, file_name.c_str(), slice.dataset.c_str(), source),
            join("map a slice of ", name));
    }
    check(H5Sselect_all(space), "select the whole");
    Handle(H5Dcreate2(file, name.c_str(), H5T_IEEE_F32LE, space, H5P_DEFAULT, properties, H5P_DEFAULT), H5Dclose,
           join("create ", name, " in ", path.string()));
  }
  file.close(join("finish ", path.string()));
}

}  // namespace slipway
