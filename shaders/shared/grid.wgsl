// A folded grid: more than 65,535 workgroups in one dimension are spread over two.
// Workgroups and invocations beyond what the host asked for exist and must return at once.

fn workgroup_index(group: vec3<u32>, groups: vec3<u32>) -> u32 {
    return group.y * groups.x + group.x;
}
